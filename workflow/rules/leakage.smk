# Leakage check: images and patients that the splits share, once per study. Then, per fold, whether
# it may be trained on.


rule leaks:
    input:
        manifests=MANIFESTS,
        stores=STORES,
        code=code("leaks"),
    output:
        leaks=f"{RESULTS}/leaks.csv",
        receipt=f"{RESULTS}/receipts/leaks.json",
    log:
        f"{RESULTS}/logs/leaks.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        domains=ALL_DOMAINS,
    shell:
        "python -m clipdr leaks --domains {params.domains} --data {params.data:q}"
        " --results {params.results:q} > {log} 2>&1"


rule gate:
    input:
        manifests=lambda wildcards: paths.manifests(wildcards.protocol),
        leaks=f"{RESULTS}/leaks.csv",
        code=code("gate"),
    output:
        gate=f"{RESULTS}/gate/{{protocol}}/{{held_out}}.json",
        receipt=f"{RESULTS}/receipts/gate/{{protocol}}/{{held_out}}.json",
    log:
        f"{RESULTS}/logs/gate/{{protocol}}/{{held_out}}.log",
    conda:
        "../../environment.yml"
    threads: 1
    params:
        data=lambda wildcards: DATA,
        results=lambda wildcards: RESULTS,
        domains=protocol_domains,
        options="--allow-leaks" if study.allow_leaks else "",
    shell:
        # The reason for a refusal goes to the screen, not only to a log.
        "python -m clipdr gate {wildcards.protocol} {wildcards.held_out}"
        " --domains {params.domains} --data {params.data:q} --results {params.results:q}"
        " {params.options} > {log} 2>&1 || {{ cat {log} >&2; exit 1; }}"
