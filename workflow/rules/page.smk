# All of it -> one page that opens offline: results/report.html.


rule page:
    input:
        tables=expand(
            f"{RESULTS}/tables/{{name}}.{{suffix}}", name=study.tables, suffix=["md", "csv"]
        ),
        figures=expand(
            f"{RESULTS}/figures/{{name}}.{{suffix}}", name=study.drawn(), suffix=["png", "svg"]
        ),
        comparisons=f"{RESULTS}/comparisons.csv" if study.reference in study.methods else [],
        runs=[
            path
            for name in [
                "settings.json",
                "provenance.json",
                "history.csv",
                "predictions.parquet",
                "scores.csv",
                "draws.npz",
                "operating.json",
            ]
            for path in study.runs(name)
        ],
        leaks=f"{RESULTS}/leaks.csv",
        gate=study.gates(),
        data=expand(
            f"{RESULTS}/data/{{name}}",
            name=[
                "counts.csv",
                "quality.csv",
                "quality.png",
                *expand("samples_{domain}.png", domain=study.domains),
            ],
        ),
        manifests=MANIFESTS,
        stores=expand(f"{DATA}/store/{{domain}}.npy", domain=study.domains),
        rejected=expand(f"{DATA}/rejected/{{domain}}.csv", domain=study.domains),
        deviations=project_file("docs/deviations.md"),
        sections=SECTIONS,
        looks=[package_file(f"report/page/templates/page.{kind}") for kind in ("html", "css", "js")],
        # captions and sections of the figures stand in their modules
        code=code("report", *[f"report/figures/{name}" for name in study.drawn()]),
    output:
        page=f"{RESULTS}/report.html",
        receipt=f"{RESULTS}/receipts/page.json",
    log:
        f"{RESULTS}/logs/page.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        domains=LISTED,
        tables=",".join(study.tables),
        figures=",".join(study.drawn()),
        reference=study.reference,
        gallery=study.gallery,
        runs=study.runs(""),
        sections=expand("--section {path}", path=SECTIONS),
    shell:
        "python -m clipdr page {params.runs} --domains {params.domains} --tables '{params.tables}' --figures '{params.figures}' "
        "--reference {params.reference} --gallery {params.gallery} {params.sections} --deviations {input.deviations} --data {params.data:q} "
        "--results {params.results:q} > {log} 2>&1"
