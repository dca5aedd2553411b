"""GeoJSON: polygons with holes, in the coordinates of a map where the picture has them, else in pixels."""

from collections.abc import Sequence
from math import ceil, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finemask.ops.colours import colours
from finemask.ops.contours import Ring, mask_to_polygons, signed_area
from finemask.ops.images.georeference import Georeference
from finemask.ops.rle import rle_to_crop
from finemask.types import Rle

PIXELS = "pixels from the image's upper left corner, y downwards"
_WGS84, _CRS84 = 4326, "urn:ogc:def:crs:OGC:1.3:CRS84"  # longitude first, as GeoJSON has it


def geojson_document(
    rles: Sequence[Rle],
    class_names: Sequence[str],
    labels: Sequence[int] | NDArray[np.int64],
    scores: Sequence[float] | NDArray[np.float32],
    georeference: Georeference | None,
) -> dict[str, Any]:
    """A FeatureCollection; an instance without pixels is left out.

    Outlines run along the edges of pixels, thinned within 1 px. Properties hold what GIS programs show as a table
    (``instance``, ``class``, ``score``) and what QuPath reads (``objectType``, ``classification``, ``measurements``).

    Args:
        rles: N masks.
        class_names: N names.
        labels: N labels, 1..K, for the colours.
        scores: N scores, 0..1.
        georeference: of the picture. None: coordinates are pixels, y downwards, and the member ``coordinates`` says
            so. Otherwise they are those of the map, outer rings counterclockwise; ``crs`` names the system if it is
            known, as the GeoJSON of 2008 has it, and GDAL and QGIS read it.
    """
    features = []
    columns = zip(rles, class_names, labels, scores, strict=True)
    for number, (rle, name, label, score) in enumerate(columns, start=1):
        polygons = [
            [_closed(ring, is_hole, georeference) for is_hole, ring in _rings(polygon.outer, polygon.holes)]
            for polygon in mask_to_polygons(*rle_to_crop(rle))
        ]
        if not polygons:
            continue
        one = len(polygons) == 1
        geometry = {"type": "Polygon" if one else "MultiPolygon", "coordinates": polygons[0] if one else polygons}
        properties = {
            "instance": number,
            "class": name,
            "score": round(float(score), 6),
            "objectType": "annotation",
            "classification": {"name": name, "color": list(colours([int(label) - 1])[0])},
            "measurements": {"score": round(float(score), 6)},
        }
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", **_system(georeference), "features": features}


def _rings(outer: Ring, holes: Sequence[Ring]) -> list[tuple[bool, Ring]]:
    """The rings of a polygon, each with whether it is a hole."""
    return [(False, outer), *((True, hole) for hole in holes)]


def _system(georeference: Georeference | None) -> dict[str, Any]:
    """The members that say what the coordinates are."""
    if georeference is None:
        return {"coordinates": PIXELS}
    if georeference.epsg is None:
        return {"coordinates": "of the map; the file does not say of which coordinate reference system"}
    name = _CRS84 if georeference.epsg == _WGS84 else f"urn:ogc:def:crs:EPSG::{georeference.epsg}"
    return {"crs": {"type": "name", "properties": {"name": name}}}


def _closed(ring: Ring, is_hole: bool, georeference: Georeference | None) -> list[list[float]]:
    """A ring with its first point repeated at the end."""
    if georeference is None:
        points = ring
    else:
        points = georeference.to_world(ring)
        # In a system with y upwards a positive area is counterclockwise, as RFC 7946 has outer rings; holes the other
        # way. The origin is moved: areas of small rings far away would drown in rounding.
        if (signed_area(points - points[0]) > 0) == is_hole:
            points = points[::-1]
        decimals = max(0, ceil(-log10(georeference.pixel_size)) + 3)  # a thousandth of a pixel
        points = np.round(points, decimals)
    listed: list[list[float]] = points.tolist()
    return [*listed, listed[0]]
