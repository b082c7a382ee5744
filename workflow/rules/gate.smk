# What train and test photographs share, once per study; then, per fold, whether it may be trained on.


localrules:
    gate,


rule leaks:
    input:
        manifests=MANIFESTS,
        stores=expand(f"{DATA}/store/{{domain}}.npy", domain=study.domains),
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
        domains=LISTED,
    shell:
        "python -m clipdr leaks --domains {params.domains} --data {params.data:q} --results {params.results:q} > {log} 2>&1"


rule gate:
    input:
        manifests=lambda wildcards: study.manifests(wildcards.protocol),
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
        domains=lambda wildcards: ",".join(study.listed(wildcards.protocol)),
        options="--allow-leaks" if study.allow_leaks else "",
    shell:
        # the reason belongs on the screen, not only in a log
        "python -m clipdr gate {wildcards.protocol} {wildcards.held_out} --domains {params.domains} --data {params.data:q} "
        "--results {params.results:q} {params.options} > {log} 2>&1 || {{ cat {log} >&2; exit 1; }}"
