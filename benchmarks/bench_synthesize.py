"""Speed of the synthetic domains: images rendered and encoded per second.

Output: a line per domain.

    OMP_NUM_THREADS=1 python benchmarks/bench_synthesize.py [--size 256] [--patients 20]
"""

import time

from _harness import Results, parser

from clipdr.data.domains import SYNTHETIC
from clipdr.data.synthetic.cameras import STYLES
from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.patients import cohort, eye
from clipdr.data.synthetic.renderer import render


def main():
    options = parser(__doc__)
    options.add_argument("--size", type=int, default=256, help="nominal side in pixels")
    options.add_argument("--patients", type=int, default=20, help="patients per domain")
    arguments = options.parse_args()
    rates, results = [], Results(__file__, arguments)
    print(
        f"{'domain':14} {'images':>6} {'per wall second':>16} {'per CPU second':>15} {'kB each':>8}"
    )
    for domain in SYNTHETIC:
        eyes = [
            eye(domain, p.number, side, grade, 0)
            for p in cohort(domain, arguments.patients, 0)
            for side, grade in p.grades.items()
        ]
        render(eyes[0], arguments.size)  # imports and caches
        wall, cpu = time.perf_counter(), time.process_time()
        total = sum(
            len(encode(render(one, arguments.size)[0], STYLES[one.style].suffix, 90))
            for one in eyes
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rates.append((len(eyes), wall, cpu))
        line = f"{domain:14} {len(eyes):6d} {len(eyes) / wall:16.1f} {len(eyes) / cpu:15.1f}"
        kilobytes = total / len(eyes) / 1000
        line += f" {kilobytes:8.1f}"
        results.add(domain, line, images=len(eyes), wall_seconds=wall, cpu_seconds=cpu)
    images, wall, cpu = map(sum, zip(*rates, strict=True))
    line = f"{'all':14} {images:6d} {images / wall:16.1f} {images / cpu:15.1f}"
    results.add("all", line, images=images, wall_seconds=wall, cpu_seconds=cpu)
    results.write()


if __name__ == "__main__":
    main()
