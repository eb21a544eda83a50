"""Closes the demo: prints its table, writes report.md and, where gnuplot is installed, a plot."""

import json
import shutil
import subprocess
import sys
from pathlib import Path


def closing_table(rows):
    """Dense, converted and fine-tuned, one line each, as Markdown."""
    lines = [
        "| model | accuracy | energy published, mJ | energy counted, mJ | ms a sequence |",
        "|---|---|---|---|---|",
    ]
    for name, row in zip(("dense", "converted", "fine-tuned"), rows, strict=True):
        lines.append(
            f"| {name} | {100 * row['accuracy']:.1f} % +- {100 * row['standard_error']:.1f} "
            f"| {row['energy_published_mj']:.4f} | {row['energy_counted_mj']:.4f} "
            f"| {row['latency_ms']:.2f} |"
        )
    return lines


def validation_curve(log):
    """(step, accuracy) of every evaluation in a metrics log."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [(x["step"], x["accuracy"]) for x in lines if x["kind"] == "eval"]


def plot(folder, dense, finetuned, converted_accuracy):
    """Validation accuracy over steps; the fine-tuning run follows the dense one."""
    start = dense[-1][0]
    curves = {"dense": dense, "fine-tuned": [(start, converted_accuracy)] +
              [(start + step, accuracy) for step, accuracy in finetuned]}
    commands = [
        "set terminal svg size 720,420 background 'white'",
        f"set output '{folder}/accuracy.svg'",
        "set xlabel 'step'",
        "set ylabel 'validation accuracy, %'",
        "set key bottom right",
        "set grid",
        "plot '-' with linespoints pt 7 ps 0.4 title 'dense', "
        "'-' with linespoints pt 5 ps 0.4 title 'converted, then fine-tuned'",
    ]
    for curve in curves.values():
        commands += [f"{step} {100 * accuracy}" for step, accuracy in curve] + ["e"]
    subprocess.run(["gnuplot"], input="\n".join(commands), text=True, check=True)


def main():
    folder = Path(sys.argv[1])
    rows = json.loads((folder / "table.json").read_text())
    report = ["# Dense against EcoFormer on short ListOps", "",
              f"{rows[0]['examples']} test expressions, {rows[0]['tokens']} tokens on average.", ""]
    table = closing_table(rows)
    report += table
    if shutil.which("gnuplot"):
        converted = json.loads((folder / "converted.json").read_text())
        plot(folder, validation_curve(folder / "dense/metrics.jsonl"),
             validation_curve(folder / "finetuned/metrics.jsonl"), converted[0]["accuracy"])
        report += ["", "![validation accuracy](accuracy.svg)"]
    (folder / "report.md").write_text("\n".join(report) + "\n")
    print("\n".join(table))
    print(f"\nreport: {folder}/report.md")


main()
