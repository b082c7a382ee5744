"""A Table as a piece of HTML by great-tables: caption above, notes below, no script, no address. Input: tables.Table. Output: text."""

import re
from html import escape

import pandas as pd

LOOK = {"best": "font-weight:bold", "second": "text-decoration:underline"}


def to_html(table):
    """The table as one <div> that stands in any page; every text of it is escaped, so that none is markup: names of
    rows by great-tables, the rest here.

    The marks of the best and the second best are CSS; a cell carries its interval as a title, to be read on hovering.
    """
    from great_tables import GT, html, loc, style

    columns = list(dict.fromkeys(table.cells["column"]))
    rows = [[name, *map(_cell, part.to_dict("records"))] for name, part in table.cells.groupby("method", sort=False)]
    frame = pd.DataFrame(rows, columns=["corner", *(f"c{place}" for place in range(len(columns)))])
    titles = dict(zip(frame.columns, (html(escape(title)) for title in [table.corner, *columns]), strict=True))
    made = GT(frame, id=f"table-{table.name}").tab_header(title=html(escape(table.caption))).cols_label(titles)
    made = made.fmt(lambda cell: cell, columns=list(frame.columns[1:]))  # great-tables escapes all but what is formatted
    made = made.cols_align("left", ["corner"]).cols_align("right", list(frame.columns[1:]))
    for note in table.notes:
        made = made.tab_source_note(html(escape(note)))
    made = made.tab_style(style.css("font-weight:bold"), loc.column_labels())
    before, css, after = re.split("(?<=<style>)|(?=</style>)", made.as_raw_html())
    return f"{before}{scoped(css, f'#table-{table.name}')}{after}\n"


def scoped(css, anchor):
    """Style rules in which every selector stands below an anchor: great-tables leaves some bare (tr, td), which would restyle the page.

    css : rules without nesting, without at-rules;  anchor : "#" and an id
    """

    def below(rule):
        selectors = (one.strip() for one in rule[1].split(","))
        return "\n" + ", ".join(one if one.startswith(anchor) else f"{anchor} {one}" for one in selectors) + " {"

    return re.sub(r"([^{}]+)\{", below, css)


def _cell(cell):
    """One cell: text as printed, its mark, and its 95 % interval as a title where there is one."""
    text, low, high = escape(cell["text"]), cell.get("low"), cell.get("high")
    looks = f' style="{LOOK[cell["mark"]]}"' if cell["mark"] in LOOK else ""
    title = f' title="95 % interval {low:.2f} to {high:.2f}"' if pd.notna(low) and pd.notna(high) else ""
    return f"<span{looks}{title}>{text}</span>" if looks or title else text
