"""``geojson/NAME.geojson``: polygons with holes in pixel coordinates, y downwards, as QuPath reads them."""

from pathlib import Path
from typing import Any

from finemask.inference.instances import Instances
from finemask.inference.writers.naming import output_stem
from finemask.ops.colours import colours
from finemask.ops.files import write_json
from finemask.ops.outlines import Polygon, Ring, mask_to_polygons
from finemask.ops.rle import rle_to_crop


class GeojsonWriter:
    """Writes one collection an image."""

    def __init__(self, output: Path) -> None:
        self._folder = output / "geojson"

    def add(self, instances: Instances, image_id: int | None) -> list[Path]:
        """Writes one collection."""
        path = self._folder / f"{output_stem(instances)}.geojson"
        write_json(path, geojson_document(instances), indent=None)
        return [path]

    def finish(self) -> list[Path]:
        """The folder of collections."""
        return [self._folder]


def geojson_document(instances: Instances) -> dict[str, Any]:
    """A FeatureCollection (RFC 7946 but for its coordinates); an instance without pixels is left out."""
    features = []
    columns = zip(instances.rles, instances.class_names, instances.scores, instances.labels, strict=True)
    for rle, name, score, label in columns:
        polygons = [_rings(polygon) for polygon in mask_to_polygons(*rle_to_crop(rle))]
        if not polygons:
            continue
        single = len(polygons) == 1
        features.append(
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon" if single else "MultiPolygon",
                    "coordinates": polygons[0] if single else polygons,
                },
                "properties": {
                    "objectType": "annotation",
                    "classification": {"name": name, "color": list(colours([int(label) - 1])[0])},
                    "measurements": {"score": round(float(score), 6)},
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def _rings(polygon: Polygon) -> list[list[list[float]]]:
    return [_closed(ring) for ring in (polygon.outer, *polygon.holes)]


def _closed(ring: Ring) -> list[list[float]]:
    points: list[list[float]] = ring.tolist()
    return [*points, points[0]]
