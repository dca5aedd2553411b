"""The page kit: shell, style sheet, charts as SVG, sortable table, galleries and contact sheets."""
