"""Speed of the synthetic domains: photographs painted and encoded per second. Input: --size, --patients; output: a line per domain.

OMP_NUM_THREADS=1 python benchmarks/synthesize.py --size 256
"""

import argparse
import time

from clipdr.data.domains import SYNTHETIC
from clipdr.data.synthetic.cameras import STYLES
from clipdr.data.synthetic.dataset import encode
from clipdr.data.synthetic.patients import cohort, eye
from clipdr.data.synthetic.renderer import paint


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="nominal side in pixels")
    parser.add_argument("--patients", type=int, default=20, help="patients per domain")
    arguments = parser.parse_args()
    rates = []
    print(
        f"{'domain':14} {'images':>6} {'per wall second':>16} {'per CPU second':>15} {'kB each':>8}"
    )
    for domain in SYNTHETIC:
        eyes = [
            eye(domain, p.number, side, grade, 0)
            for p in cohort(domain, arguments.patients, 0)
            for side, grade in p.grades.items()
        ]
        paint(eyes[0], arguments.size)  # imports and caches
        wall, cpu = time.perf_counter(), time.process_time()
        total = sum(
            len(encode(paint(one, arguments.size)[0], STYLES[one.style].suffix, 90)) for one in eyes
        )
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        rates.append((len(eyes), wall, cpu))
        print(
            f"{domain:14} {len(eyes):6d} {len(eyes) / wall:16.1f} {len(eyes) / cpu:15.1f} {total / len(eyes) / 1000:8.1f}"
        )
    images, wall, cpu = map(sum, zip(*rates, strict=True))
    print(f"{'all':14} {images:6d} {images / wall:16.1f} {images / cpu:15.1f}")


if __name__ == "__main__":
    main()
