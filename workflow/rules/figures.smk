# Scores -> tables and figures.

FEATURES = [
    *expand(f"{DATA}/features/{study.default_backbone}/{{domain}}.npy", domain=study.domains),
    f"{DATA}/features/{study.default_backbone}/prompts.npz",
]


rule table:
    input:
        gate=GATES,
        scores=RUN_SCORES,
        draws=RUN_DRAWS,
        settings=RUN_SETTINGS,
        provenance=RUN_PROVENANCE,
        comparisons=lambda wildcards: (
            f"{RESULTS}/comparisons.csv" if "_compare_" in wildcards.name else []
        ),
        published=lambda wildcards: (
            package_file("report/tables/published.csv")
            if wildcards.name.startswith("reproduction_")
            else []
        ),
        templates=TABLE_TEMPLATES,
        code=code("table"),
    output:
        json=f"{RESULTS}/tables/{{name}}.json",
        csv=report(
            f"{RESULTS}/tables/{{name}}.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{name}, all numbers"},
        ),
        md=f"{RESULTS}/tables/{{name}}.md",
        tex=f"{RESULTS}/tables/{{name}}.tex",
        html=report(
            f"{RESULTS}/tables/{{name}}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{name}, to read"},
        ),
        receipt=f"{RESULTS}/receipts/tables/{{name}}.json",
    log:
        f"{RESULTS}/logs/table/{{name}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        runs=RUN_FOLDERS,
    shell:
        "python -m clipdr table {wildcards.name} {params.runs} --results {params.results:q}"
        " > {log} 2>&1"


rule figure:
    input:
        predictions=lambda wildcards: paths.figure_run_files("predictions.parquet", wildcards.name),
        history=lambda wildcards: paths.figure_run_files("history.csv", wildcards.name),
        settings=lambda wildcards: paths.figure_run_files("settings.json", wildcards.name),
        provenance=lambda wildcards: paths.figure_run_files("provenance.json", wildcards.name),
        draws=lambda wildcards: paths.figure_run_files("draws.npz", wildcards.name),
        scores=lambda wildcards: paths.figure_run_files("scores.csv", wildcards.name),
        operating=lambda wildcards: paths.figure_run_files("operating.json", wildcards.name),
        comparisons=lambda wildcards: (
            f"{RESULTS}/comparisons.csv" if wildcards.name == "differences" else []
        ),
        features=lambda wildcards: FEATURES if wildcards.name == "embedding" else [],
        # One module per figure: an edit reruns that figure and no other.
        code=lambda wildcards: code("figure", f"report/figures/{wildcards.name}"),
    output:
        png=report(
            f"{RESULTS}/figures/{{name}}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{name}"},
        ),
        pdf=f"{RESULTS}/figures/{{name}}.pdf",
        svg=f"{RESULTS}/figures/{{name}}.svg",
        receipt=f"{RESULTS}/receipts/figures/{{name}}.json",
    log:
        f"{RESULTS}/logs/figure/{{name}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        results=lambda wildcards: RESULTS,
        data=lambda wildcards: DATA,
        backbone=study.default_backbone,
        runs=lambda wildcards: paths.figure_run_folders(wildcards.name),
    shell:
        "python -m clipdr figure {wildcards.name} {params.runs} --results {params.results:q}"
        " --data {params.data:q} --backbone {params.backbone} > {log} 2>&1"


ruleorder: cam > figure


rule cam:
    input:
        weights=paths.cam_run_files("model.safetensors"),
        settings=paths.cam_run_files("settings.json"),
        predictions=paths.cam_run_files("predictions.parquet"),
        towers=paths.weight_files(study.default_backbone),
        manifests=MANIFESTS,
        stores=STORES,
        images=f"{study.raw}/images/{study.domains[0]}" if study.domains[0] in SYNTHETIC else [],
        code=code("cam", *[study.method_module(method) for method in study.figures.get("cam", [])]),
    output:
        png=report(
            f"{RESULTS}/figures/cam.png",
            caption="../report/cam.rst",
            category="Figures",
            labels={"figure": "cam"},
        ),
        pdf=f"{RESULTS}/figures/cam.pdf",
        svg=f"{RESULTS}/figures/cam.svg",
        csv=f"{RESULTS}/figures/cam.csv",
        receipt=f"{RESULTS}/receipts/figures/cam.json",
    log:
        f"{RESULTS}/logs/figure/cam.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        domains=ALL_DOMAINS,
        synthetic=(
            f"--raw {study.raw} --size {study.synthetic.size} --seed {study.synthetic.seed}"
            if study.domains[0] in SYNTHETIC
            else ""
        ),
        runs=paths.cam_run_folders(),
    shell:
        "python -m clipdr cam {params.runs} --domains {params.domains} --data {params.data:q}"
        " --results {params.results:q} {params.synthetic} --threads {threads} > {log} 2>&1"
