"""Rules on categories: their names, and ids that other programs misread."""

from collections.abc import Iterator

from finemask.coco.entries import category_name_fault, is_text, show, whole
from finemask.datatools.check.document import CategoryRow, Document
from finemask.datatools.check.problems import (
    AddEntry,
    Dataset,
    Edit,
    Finding,
    RemoveEntry,
    SetValue,
    about_category,
    about_entry,
    each_document,
    error_rule,
    warning_rule,
)
from finemask.ops.wording import plural, word

_BACKGROUND = {"background", "_background_", "__background__", "bg", "void"}


def _name_invalid(document: Document) -> Iterator[Finding]:
    names = {entry.get("name") for _, entry in document.objects("categories") if is_text(entry.get("name"))}
    for position, entry in document.objects("categories"):
        name, number, fault = entry.get("name"), whole(entry.get("id")), category_name_fault(entry)
        if fault is None or number is None:
            continue
        wish = str(name) if type(name) is int and abs(name) < 10**9 else f"category {number}"
        while wish in names:
            wish += "_"
        names.add(wish)
        yield about_entry(
            document, "categories", position, fault.message, SetValue("categories", position, "name", wish)
        )


def _name_repeated(document: Document) -> Iterator[Finding]:
    first: dict[str, CategoryRow] = {}
    for row in document.categories:
        kept = first.setdefault(row.name, row)
        if kept is row:
            continue
        referring = document.references.get(("category_id", row.id), [])
        edits: list[Edit] = [SetValue("annotations", position, "category_id", kept.id) for position in referring]
        message = f"the name {show(row.name)} has the ids {kept.id} and {row.id}"
        yield about_category(document, row, message, RemoveEntry("categories", row.position), *edits)


def _name_blanks(document: Document) -> Iterator[Finding]:
    for row in document.categories:
        plain = " ".join(row.name.split())
        if plain != row.name:
            edit = SetValue("categories", row.position, "name", plain)
            yield about_category(document, row, f"the name {show(row.name)} has blanks too many", edit)


def _name_case(document: Document) -> Iterator[Finding]:
    spellings: dict[str, str] = {}
    for row in document.categories:
        first = spellings.setdefault(_folded(row.name), row.name)
        if " ".join(first.split()) != " ".join(row.name.split()):
            yield about_category(document, row, f"there are both {show(first)} and {show(row.name)}")


def _differ(dataset: Dataset) -> Iterator[Finding]:
    first, *others = dataset.documents
    wanted = {" ".join(row.name.split()): row for row in first.categories}
    if not wanted:
        return
    for document in others:
        here = {" ".join(row.name.split()): row for row in document.categories}
        if not here:
            continue
        missing = {name: row for name, row in wanted.items() if name not in here}
        folded = {_folded(name): row for name, row in missing.items()}
        for name, row in here.items():
            if name not in wanted:
                yield from _unknown_name(document, row, folded.pop(_folded(name), None), first.path.name)
        if not dataset.settings.allow_missing_categories:
            taken = set(document.category_ids)
            for row in missing.values():
                if _folded(row.name) in folded:
                    yield _missing_name(document, row, taken, first.path.name)


def _unknown_name(document: Document, row: CategoryRow, like: CategoryRow | None, training: str) -> Iterator[Finding]:
    edits: tuple[Edit, ...] = ()
    message = f"{training} has no category {show(row.name)}"
    count = len(document.references.get(("category_id", row.id), ()))
    if like is not None:
        message += f", but {show(like.name)}"
        edits = (SetValue("categories", row.position, "name", like.name),)
    elif count:
        message += f", of which there {word(count, 'is', 'are')} {plural(count, 'annotation')} here"
    else:
        edits = (RemoveEntry("categories", row.position),)
    yield about_category(document, row, message, *edits)


def _missing_name(document: Document, row: CategoryRow, taken: set[int], training: str) -> Finding:
    number = row.id if row.id not in taken else max(taken) + 1
    taken.add(number)
    edit = AddEntry("categories", {"id": number, "name": row.name})
    return Finding(f"the category {show(row.name)} of {training} is not in the list", document, edits=(edit,))


def _folded(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def _id_zero(document: Document) -> Iterator[Finding]:
    for row in document.categories:
        if row.id <= 0 and document.shifted_category_ids is None:
            yield about_category(document, row, f"{show(row.name)} has the id {row.id}")


def _id_gaps(document: Document) -> Iterator[Finding]:
    ids = sorted(number for number in document.category_ids if number > 0)
    gaps = ids[-1] - ids[0] + 1 - len(ids) if ids else 0
    start = f", the first is {ids[0]}" if ids and ids[0] > 1 and 0 not in document.category_ids else ""
    if gaps or start:
        yield Finding(f"{len(ids)} categories have ids up to {ids[-1]}{start}", document)


def _ids_shifted(document: Document) -> Iterator[Finding]:
    if document.shifted_category_ids is not None:
        used, known = document.shifted_category_ids
        message = f"annotations use the category ids {_span(used)}, the categories have {_span(known)}: off by one"
        yield Finding(message, document)


def _span(ids: set[int]) -> str:
    ordered = sorted(ids)
    return ", ".join(map(str, ordered)) if len(ordered) <= 4 else f"{ordered[0]}, {ordered[1]}, … {ordered[-1]}"


def _background(document: Document) -> Iterator[Finding]:
    for row in document.categories:
        if row.name.strip().casefold() in _BACKGROUND:
            count = len(document.references.get(("category_id", row.id), ()))
            yield about_category(document, row, f"a category is called {show(row.name)} and has {count} annotations")


RULES = (
    error_rule(
        "category-name-invalid",
        "Each category has a name.",
        "Training cannot start: categories are matched between files by name.",
        each_document(_name_invalid),
        repair="names it after its id",
    ),
    warning_rule(
        "category-name-blanks",
        "Category names have no blanks at their ends, and no two in a row.",
        "'cell ' and 'cell' would be two classes.",
        each_document(_name_blanks),
        repair="removes the blanks",
    ),
    error_rule(
        "category-name-repeated",
        "No two categories have the same name.",
        "One class would be learned as two that exclude one another.",
        each_document(_name_repeated),
        repair="gives all annotations the first id and removes the other category",
    ),
    warning_rule(
        "category-name-case",
        "No two category names differ only in case, blanks, '-' or '_'.",
        "If they mean the same, one class is learned as two.",
        each_document(_name_case),
    ),
    error_rule(
        "categories-differ",
        "All files list the same category names.",
        "Training cannot start: categories are matched by name, and what has no match cannot be measured.",
        _differ,
        repair="adds names without annotations, takes out unused ones, takes the spelling of the first file",
    ),
    error_rule(
        "category-ids-shifted",
        "The category ids of the annotations are not those of the categories off by one.",
        "Every object would be learned as its neighbour in the list of classes.",
        each_document(_ids_shifted),
    ),
    warning_rule(
        "category-id-zero",
        "No category id is 0 or negative.",
        "None here: finemask numbers classes itself; other programs take 0 for background and lose the class.",
        each_document(_id_zero),
        harmless_here=True,
    ),
    warning_rule(
        "category-id-gaps",
        "Category ids go from 1 to the number of categories.",
        "None here: finemask numbers classes itself; other programs make a class of every gap or fail.",
        each_document(_id_gaps),
        harmless_here=True,
    ),
    warning_rule(
        "category-background",
        "No category is called background.",
        "The background would be learned as an object; it needs no category.",
        each_document(_background),
    ),
)
