#!/usr/bin/env python3
"""Quality of selection on a model: passband-worker eval over many documents, as one table.

Every document (task, seed) is one run of one thread, so that a machine's cores are busy and
a run that was cut short goes on where it stopped: results stay in --out, one file each.

    bench/quality.py --text books-dev.txt                 32 documents a task
    bench/quality.py --text books-dev.txt --report        what is there already, as a table
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TASKS = [("needle", 16), ("needle", 64), ("recall", 16), ("books", 16)]
GREEDY = ["greedy-24-int4", "greedy-24-int2"]
AGREEMENT = ["ca-16-bf16", "ca-16-bf16-query-head"]
# The parts of a full comparison: what one run of a document measures.
PARTS = {
    "a": {"method": "full,oracle,fasa,stream,quest", "budget": "256",
          "profiles": GREEDY + AGREEMENT},
    "b": {"method": "fasa", "budget": "128,512", "profiles": GREEDY},
    "c": {"method": "fasa", "budget": "256", "profiles": ["ca-16-bf16-query-head"],
          "forced": ["--sinks", "0", "--recent", "0"]},
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", help="held-out text, without what the profiles were made from")
    parser.add_argument("--model", default=ROOT / "models/books-13m", type=pathlib.Path)
    parser.add_argument("--worker", default=ROOT / "build/release/bin/passband-worker",
                        type=pathlib.Path)
    parser.add_argument("--out", default=ROOT / "build/quality", type=pathlib.Path,
                        help="where results are kept (default: build/quality)")
    parser.add_argument("--seeds", default="1-32", help="documents of each task (default: 1-32)")
    parser.add_argument("--parts", default="abc",
                        help="a: every method at budget 256; b: budgets 128 and 512; "
                             "c: the paper with nothing forced")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return parser.parse_args()


def seeds(text):
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        yield from range(int(first), int(last or first) + 1)


def command(options, part, task, keys, seed):
    what = PARTS[part]
    words = [options.worker, "eval", "--model", options.model, "--text", options.text,
             "--task", task, "--keys", keys, "--documents", 1, "--seed", seed, "--threads", 1,
             "--lanes", 1, "--json", "--method", what["method"], "--budget", what["budget"]]
    words += what.get("forced", [])
    for profile in what["profiles"]:
        words += ["--profile", options.model / "profiles" / f"{profile}.json"]
    return [str(word) for word in words]


def measure(options):
    options.out.mkdir(parents=True, exist_ok=True)
    work = [(part, task, keys, seed) for part in options.parts for seed in seeds(options.seeds)
            for task, keys in TASKS
            if not (options.out / f"{part}-{task}-{keys}-{seed}.json").exists()]
    done = 0

    def one(item):
        part, task, keys, seed = item
        ran = subprocess.run(command(options, *item), capture_output=True, text=True)
        if ran.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, item))}: {ran.stderr.strip()}")
        target = options.out / f"{part}-{task}-{keys}-{seed}.json"
        target.with_suffix(".part").write_text(ran.stdout)
        target.with_suffix(".part").rename(target)

    with concurrent.futures.ThreadPoolExecutor(options.processes) as pool:
        for future in concurrent.futures.as_completed([pool.submit(one, i) for i in work]):
            future.result()
            done += 1
            print(f"\r{done} of {len(work)} documents", end="", file=sys.stderr, flush=True)
    if work:
        print(file=sys.stderr)


def key_of(result):
    return (result["method"], result.get("profile", ""), result.get("budget", 0),
            result.get("sinks", 0), result.get("recent", 0))


def collect(options):
    """{selection: {(task, keys): [result of each document]}}"""
    wanted = set(seeds(options.seeds))
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in sorted(options.out.glob("*.json")):
        part, task, keys, seed = path.stem.split("-")
        if part not in options.parts or int(seed) not in wanted:
            continue
        for result in json.loads(path.read_text())["results"]:
            found[key_of(result)][task, int(keys)].append(result)
    return found


def mean(results, field):
    weights = [r["scored_items"] if field == "score" else r["tokens"] for r in results]
    return sum(r[field] * w for r, w in zip(results, weights)) / sum(weights)


def rows(found):
    for (method, profile, budget, sinks, recent), tasks in found.items():
        every = [r for results in tasks.values() for r in results]
        row = {"method": method, "profile": profile, "budget": budget, "sinks": sinks,
               "recent": recent,
               "documents": min((len(r) for r in tasks.values()), default=0),
               "fetched_share": sum(r["bytes_fetched"] for r in every) /
               sum(r["bytes_full_attention"] for r in every),
               "hot_row_hit_rate": mean(every, "hot_row_hit_rate"),
               "attention_mass": mean(every, "attention_mass")}
        for task, keys in TASKS:
            if tasks.get((task, keys)):
                name = f"{task}_{keys}" if task == "needle" else task
                row[name] = mean(tasks[task, keys],
                                 "bits_per_byte" if task == "books" else "score")
        yield row


def cell(row, name, form):
    return format(row[name], form) if name in row else "-"


def table(lines):
    print(f"{'selection':<42} {'docs':>4} {'books':>7} {'needle16':>8} {'needle64':>8} "
          f"{'recall':>7} {'fetched':>8} {'hot':>5} {'mass':>5}")
    for row in lines:
        name = row["method"] + (f" {row['profile']}" if row["profile"] else "")
        if row["budget"]:
            name += f" {row['budget']}"
            name += "" if row["recent"] else " unforced"
        print(f"{name:<42} {row['documents']:>4} {cell(row, 'books', '7.4f'):>7} "
              f"{cell(row, 'needle_16', '8.3f'):>8} {cell(row, 'needle_64', '8.3f'):>8} "
              f"{cell(row, 'recall', '7.4f'):>7} {row['fetched_share']:8.3%} "
              f"{row['hot_row_hit_rate']:5.0%} {row['attention_mass']:5.3f}")


def main():
    options = arguments()
    if not options.report:
        if not options.text:
            sys.exit("quality.py: --text FILE is needed (or --report)")
        measure(options)
    lines = list(rows(collect(options)))
    if not lines:
        sys.exit(f"quality.py: no results in {options.out}")
    if options.json:
        print(json.dumps(lines, indent=2))
    else:
        table(lines)


if __name__ == "__main__":
    main()
