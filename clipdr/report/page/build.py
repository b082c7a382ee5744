"""The report: everything a study found, as one HTML file that opens offline.

Input: tables, figures, comparisons, scores, leaks and data of {results}/, manifests and stores of {data}/, run folders, docs/deviations.md.
Output: {results}/report.html, without a date or a path of this machine: equal results give an equal file. No model is loaded.
All text is escaped by the template; the file's own policy forbids every request and every script but its own.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup

from clipdr import GRADES
from clipdr.artifacts import run_folder
from clipdr.artifacts.files import write_text
from clipdr.data.domains import is_synthetic
from clipdr.evaluation import aggregate, schema
from clipdr.report import checklist, data_report, labels
from clipdr.report.checklist import Fact
from clipdr.report.page import error_gallery, facts, images, run_tables, sections, similarity
from clipdr.report.page.layout import MAPS, PROTOCOLS, TOPICS, shared_out
from clipdr.report.page.views import printed_table
from clipdr.report.tables.notes import remarks

LOOKS = Path(__file__).parent / "templates"  # of page.html, page.css, page.js
LIMIT = 15 * 2**20  # bytes that the file should stay under
SUMMARY_FIGURES = ("scores_by_domain", "similarity", "differences")
NOTHING = "Nothing of this topic was asked for (config.yaml: tables, figures)."


class Study(NamedTuple):
    """What the page is about. Paths and names as `write` takes them; runs: read; manifests: {domain: manifest}.

    held : what the runs of the first protocol hold out: figures and facts are of that protocol
    """

    results: Path
    data: Path
    runs: list[run_folder.Run]
    manifests: dict
    held: list[str]
    reference: str


def write(
    path,
    folders,
    *,
    tables,
    figures,
    domains,
    data,
    deviations,
    reference="",
    gallery=4,
    further=(),
):
    """Write the report; returns its bytes.

    path       : of the HTML file, in the folder of results
    folders    : run folders, in the order of the tables;  tables, figures : names, in their order
    domains    : of the study;  data : folder with manifests/, store/ and rejected/
    deviations : Markdown file that lists them
    reference  : method whose worst errors and headline numbers are shown; the last method where it was not run
    gallery    : photographs per held-out domain, the worst errors first; 0 leaves every photograph out, those of the data report too
    further    : section.json of the sections that sub-packages add (clipdr.report.page.sections)

    Raises DataError where a run, a manifest or a score is missing or damaged; a missing table or figure is said on the page.
    """
    runs = [run_folder.read_run(folder) for folder in folders]
    methods = list(dict.fromkeys(run.method for run in runs))
    reference = reference if reference in methods else methods[-1]
    held = list(dict.fromkeys(run.held_out for run in runs if run.protocol == runs[0].protocol))
    study = Study(
        Path(path).parent,
        Path(data),
        runs,
        run_tables.read_data(Path(data), domains),
        held,
        reference,
    )
    content = collect(study, tables, figures, Path(deviations), gallery)
    text = render(content | {"further": [sections.read(one, gallery > 0) for one in further]})
    write_text(path, text)
    return len(text.encode())


def collect(study, tables, figures, deviations, gallery):
    """All that the template shows, by name. Arguments as `write`."""
    figures = [name for name in figures if gallery or name not in images.PHOTOGRAPHS]
    printed = {name: printed_table(study.results / "tables", name) for name in tables}
    scores = aggregate.collect([run.folder for run in study.runs])
    drawn = {
        name: images.figure(study.results / "figures", name, count(study, scores))
        for name in figures
    }
    views, folded = computed(study, scores)
    for topic, names in shared_out(tables).items():
        views[topic] = [printed[name] for name in names if printed[name]] + views[topic]
    pictures = {
        topic: [drawn[name] for name in names if drawn[name].source]
        for topic, names in shared_out(figures).items()
    }
    text = deviations.read_text(encoding="utf-8") if deviations.is_file() else ""
    shown = {
        "matrices": similarity.similarities(study.runs),
        "gallery": error_gallery.errors(
            [r for r in study.runs if r.method == study.reference],
            study.manifests,
            study.data / "store",
            gallery,
        ),
        "data_report": data_report.data_report(
            study.results / "data", study.data, study.manifests, gallery > 0
        ),
        "deviations": rendered(text) if text else None,
    }
    known = all_facts(study) | shown_facts(study, shown, pictures)
    answers = {
        "tripod": checklist.answer(checklist.TRIPOD, known),
        "claim": checklist.answer(checklist.CLAIM, known),
    }
    absent = {
        name: f"results/tables/{name}.md or .csv is missing: run clipdr table {name}."
        for name in tables
        if not printed[name]
    }
    absent |= {
        name: f"results/figures/{name}.png is missing: run clipdr figure {name}."
        for name in figures
        if not drawn[name].source
    }
    missing = {
        topic: [absent[name] for name in names if name in absent]
        for topic, names in shared_out([*tables, *figures]).items()
    }
    for topic, facts_of in TOPICS.items():
        if facts_of.words and not (
            views[topic]
            or pictures[topic]
            or missing[topic]
            or (topic == "similarity" and shown["matrices"])
        ):
            missing[topic] = [NOTHING]
    return shown | {
        "protocols": {
            protocol: PROTOCOLS.get(protocol, protocol)
            for protocol in run_folder.by_protocol(study.runs)
        },
        "topics": TOPICS,
        "views": views,
        "folded": folded,
        "figures": pictures,
        "missing": missing,
        "headline": printed[tables[0]] if tables else None,
        "best_figures": [
            drawn[name] for name in SUMMARY_FIGURES if name in drawn and drawn[name].source
        ],
        "summary": summary(study, known),
        "domains": run_tables.domains(study.manifests),
        "synthetic": [name for name in study.manifests if is_synthetic(name)],
        "real": [name for name in study.manifests if not is_synthetic(name)],
        "photographs": gallery > 0,
        "reference": study.reference,
        "commits": sorted({run.provenance["commit"] or "unknown" for run in study.runs}),
        "answers": answers,
        "counts": {name: checklist.counted(found) for name, found in answers.items()},
        "sources": {"tripod": checklist.TRIPOD_SOURCE, "claim": checklist.CLAIM_SOURCE},
        "grades": GRADES,
    }


def count(study, scores):
    """How many photographs the figures are of, in words: those of the first protocol."""
    protocol = study.runs[0].protocol
    averages = aggregate.average(
        scores[(scores["protocol"] == protocol) & scores["held_out"].isin(study.held)]
    )
    n = int(averages.loc[averages["held_out"] == schema.AVERAGE, "n"].max())
    if protocol == "esdg":
        return f"n = {n:,} test photographs, each tested once for every other one of the {len(study.held)} source domains."
    return f"n = {n:,} test photographs of {len(study.held)} held-out domains."


def computed(study, scores):
    """{section: Views} that are no finished table, and {section: Views to be unfolded}; per protocol where there are several."""
    views, folded = {topic: [] for topic in TOPICS}, {topic: [] for topic in TOPICS}
    parts = run_folder.by_protocol(study.runs)
    for protocol, runs in parts.items():
        compared = run_tables.comparisons(
            study.results / "comparisons.csv", protocol, remarks([run.folder for run in runs])
        )
        rules, chosen = run_tables.selection(runs, scores[scores["protocol"] == protocol])
        if len(parts) > 1:  # each table says whose it is
            *compared, rules, chosen = (
                one._replace(caption=f"{protocol}: {one.caption}")
                for one in (*compared, rules, chosen)
            )
        views["comparisons"] += compared[:1]
        folded["comparisons"] += compared[1:]
        views["leaks"] += run_tables.folds(
            study.results, protocol, list(dict.fromkeys(run.held_out for run in runs))
        )
        views["selection"].append(rules)
        folded["selection"].append(chosen)
    views["leaks"] += run_tables.leaks(study.results)
    views["training"].append(run_tables.settings(study.runs))
    views["environment"].append(run_tables.environment(study.runs))
    return views, folded


def all_facts(study):
    """{name: Fact} of data, design and performance; see clipdr.report.page.facts. Protocol: that of the first run."""
    runs = [run for run in study.runs if run.protocol == study.runs[0].protocol]
    mine = [run for run in runs if run.method == study.reference]
    folders = [run.folder for run in mine]
    scores = aggregate.collect(folders)
    averages = aggregate.average(scores, aggregate.collect_draws(folders))
    points = {
        str(run.folder): schema.of_headline(_json(run.folder / "operating.json")) for run in mine
    }
    gates = study.results / "gate" / runs[0].protocol
    reports = {
        held_out: _json(gates / f"{held_out}.json")
        for held_out in dict.fromkeys(run.held_out for run in runs)
    }
    known = facts.data(
        study.manifests,
        {name: len(data_report.rejected(study.data, name)) for name in study.manifests},
    )
    known |= facts.design(runs, reports)
    known |= facts.performance(averages, study.reference, points, int(averages["resamples"].max()))
    if "last" in set(scores["selection"]):
        known["last weights"] = Fact(
            "The last weights were scored beside the selected ones.", "selection"
        )
    if (scores["split"] == "val").any():
        known["internal"] = Fact(
            "Source validation is scored in results/scores.csv (split val); its AUC at every choice is shown.",
            "selection",
        )
    return known


def shown_facts(study, shown, pictures):
    """{name: Fact} of what the page itself shows."""
    facts_of = {
        "failures": (
            shown["gallery"],
            "gallery",
            f"Worst errors of {study.reference} per held-out domain, with photograph and probabilities.",
        ),
        "explanation": (
            [one for one in pictures["maps"] if any(word in one.name for word in MAPS)],
            "maps",
            "Activation maps, with their sanity checks.",
        ),
        "deviations": (
            shown["deviations"],
            "deviations",
            "Every difference from the papers and the released code is listed.",
        ),
    }
    return {name: Fact(text, section) for name, (there, section, text) in facts_of.items() if there}


def summary(study, known):
    """(term, text) of what was run, on what."""
    methods, seeds = (
        list(dict.fromkeys(run.method for run in study.runs)),
        sorted({run.seed for run in study.runs}),
    )
    terms = {
        "sources": "Domains", "counts": "Photographs", "partition": "Protocol", "model": "Model",
        "preprocessing": "Pixels", "disjoint": "Leaks", "performance": "Result", "referable": "Referable DR",
    }  # fmt: skip
    over = labels.PROTOCOLS[study.runs[0].protocol][1]
    many = f"{len(methods)} methods, {len(study.held)} {over}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"
    rows = [("Methods", ", ".join(methods)), ("Runs", f"{len(study.runs)}: {many}")]
    return rows + [(term, known[name].text) for name, term in terms.items() if name in known]


def render(content):
    """The HTML text. The policy in its head allows data URIs, its own style, and the one script whose hash it names."""
    script, style = ((LOOKS / f"page.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(LOOKS),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html").render(
        content, style=Markup(style), script=Markup(script), policy=policy
    )


def rendered(text):
    """Markdown -> HTML without its title, headings one level lower; raw HTML in it stays text."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    titles = [
        place
        for place, token in enumerate(tokens)
        if token.type == "heading_open" and token.tag == "h1"
    ]
    tokens = [
        token
        for place, token in enumerate(tokens)
        if not any(start <= place <= start + 2 for start in titles)
    ]
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1]) + 1, 6)}"
    html = markdown.renderer.render(tokens, markdown.options, {})
    region = '<div class="wide" tabindex="0" role="region" aria-label="Table of deviations"><table>'
    return Markup(html.replace("<table>", region).replace("</table>", "</table></div>"))


def _json(path):
    return json.loads(path.read_text()) if path.is_file() else {}
