# Names that several rule files share.

DATA, RESULTS = study.data, study.results
SYNTHETIC = study.synthetic_domains
# For the option --domains of commands that read every domain.
ALL_DOMAINS = ",".join(study.all_domains)
MANIFESTS = expand(f"{DATA}/manifests/{{domain}}.csv", domain=study.all_domains)
STORES = expand(f"{DATA}/store/{{domain}}.npy", domain=study.domains)
REJECTED = expand(f"{DATA}/rejected/{{domain}}.csv", domain=study.domains)

# One run, and the same file of all runs.
RUN = f"{RESULTS}/runs/{{protocol}}/{{method}}/{{held_out}}/{{seed}}"
RUN_FOLDERS = paths.run_folders()
RUN_SCORES = paths.run_files("scores.csv")
RUN_DRAWS = paths.run_files("draws.npz")
RUN_SETTINGS = paths.run_files("settings.json")
RUN_PROVENANCE = paths.run_files("provenance.json")

GATES = paths.gate_files()
COMPARISONS = f"{RESULTS}/comparisons.csv" if study.reference in study.methods else []
TABLES = expand(
    f"{RESULTS}/tables/{{name}}.{{suffix}}",
    name=study.tables,
    suffix=["json", "csv", "md", "tex", "html"],
)
# Layout and style of the HTML file of a table.
TABLE_TEMPLATES = [
    package_file(f"report/templates/{name}")
    for name in ("document.html", "table.html", "table_page.html", "page.css")
]
# Whether a rule of selection needs the checkpoints of a run.
KEEP_CHECKPOINTS = any(study.checkpoint_rules(protocol) for protocol in study.protocols)
# section.json of systems with a section in the report. Their rule files append it, and
# report.smk, included last, reads it.
SECTIONS = []

# For the option --domains of a job of one protocol.
protocol_domains = lambda wildcards: ",".join(study.protocol_domains(wildcards.protocol))
