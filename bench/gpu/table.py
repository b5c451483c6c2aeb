"""Reads the benchmark's JSON lines, prints one table and one JSON line of all of it."""
import json
import sys


def main():
    lines = [json.loads(line) for line in sys.stdin if line.startswith("{")]
    full = {(x["tokens"], x["batch"]): x for x in lines if x["case"] == "torch"}
    for line in lines:
        if line["case"] in ("device", "copy", "pinned gather"):
            print(", ".join(f"{k} {v}" for k, v in line.items()))
    head = ["tokens", "batch", "slices", "budget", "TIP us", "TIP GB/s", "FAC us", "step us",
            "full us", "ratio", "naive us", "ratio"]
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for x in lines:
        if x["case"] != "step":
            continue
        torch = full.get((x["tokens"], x["batch"]))
        cells = [x["tokens"], x["batch"], x["encoding"], x["budget"], x["tip_us"], x["tip_gbps"],
                 x["fac_us"], x["step_us"]]
        if torch:
            cells += [torch["full_us"], f"{torch['full_us'] / x['step_us']:.1f}",
                      torch["naive_us"], f"{torch['naive_us'] / x['step_us']:.1f}"]
        print("| " + " | ".join(str(c) for c in cells) + " |")
    print(json.dumps(lines))


if __name__ == "__main__":
    main()
