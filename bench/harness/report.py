"""What a run leaves behind: results.json, a table in Markdown, plots, and the generated part of bench/README.md."""

import json
import pathlib
import platform
import shutil
import subprocess

from . import verdict
from .processes import CPUS, ROOT

BEGIN, END = "<!-- written by bench/run --write-readme -->", "<!-- end of what bench/run writes -->"

BUSY_SHARE = 0.15  # of all CPUs, before the run begins


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    memory = int(pathlib.Path("/proc/meminfo").read_text().split()[1]) >> 20
    release = pathlib.Path("/etc/debian_version")
    return {"cpu": model or platform.machine(), "cpus": len(CPUS), "memory_gib": memory, "kernel": platform.release(),
            "system": f"Debian {release.read_text().strip()}" if release.exists() else platform.platform()}


def commit():
    changed = output_of("git", "status", "--porcelain", "--untracked-files=no")
    return (output_of("git", "rev-parse", "--short=12", "HEAD") or "unknown") + (" with changes" if changed else "")


def number(value):
    if value is None:
        return "–"
    if value == 0:
        return "0"
    for digits, least in ((0, 100), (1, 10), (2, 1), (3, 0.1)):
        if abs(value) >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.4f}"


def spread(summary):
    if not summary:
        return "–"
    return f"{number(summary['min'])} / **{number(summary['median'])}** / {number(summary['max'])}"


def goal_text(row):
    if row["limit"] is None:
        return f"{row['text']}: **{row['verdict']}**"
    bound = "at least" if row["above"] else "at most"
    return f"{row['text']}: {number(row['value'])}, {bound} {number(row['limit'])}: **{row['verdict']}**"


def contestant_row(name, found):
    if found["absent"]:
        return f"| {name} | {found['absent']} | | | |"
    figure = spread(found.get("figure")) if found.get("figure") else "no figure"
    without = len(found["wrong"])
    if without:
        figure += f" ({without} run(s) without)"
    rate = (found.get("rate") or {}).get("median")
    tails = [number((found.get(name) or {}).get("median")) for name in ("p50", "p99", "p99_9")]
    memory = (found.get("pss") or {}).get("median")
    return (f"| {name} | {figure} | {number(rate)} | {' / '.join(tails) if tails != ['–'] * 3 else '–'} | "
            f"{number(memory / 2**20) if memory else '–'} |")


def work_table(name, work):
    lines = [f"#### {name}: {work['title']}", "",
             f"| | {work['unit']}: min / median / max | per second | p50 / p99 / p99.9 µs | Pss MiB |", "|---|---|---|---|---|"]
    lines += [contestant_row(who, found) for who, found in work["contestants"].items()]
    lines += [""] + [f"- Goal: {goal_text(row)}" for row in work["goals"]] + [f"- {note}" for note in work["notes"]]
    return lines + [""]


def goal_table(results):
    lines = ["| work | goal | measured | limit | |", "|---|---|---|---|---|"]
    for name, work in results["works"].items():
        lines += [f"| {name} | {row['text']} | {number(row['value'])} | {number(row['limit'])} | {row['verdict']} |"
                  for row in work["goals"]]
    return lines


def scale_text(scale):
    """The arithmetic, as it is done."""
    delivery, process, kernel = scale["delivery_us"], scale["stream_process_bytes"], scale["stream_kernel_bytes"]
    lines = [f"Target: {scale['streams']:,} open streams and {scale['deliveries_per_s']:,} deliveries/s.", ""]
    if scale["cores"] is None:
        lines.append("- Cores: no figure (W4 did not run).")
    else:
        lines.append(f"- Cores: {scale['deliveries_per_s']:,} deliveries/s × {number(delivery)} µs (W4, 10,000 streams, one "
                     f"connection each, nothing to coalesce) = **{number(scale['cores'])} cores** busy.")
    if scale["memory_gib"] is None:
        lines.append("- Memory: no figure (W7 did not run).")
    else:
        lines.append(f"- Memory: {scale['streams']:,} streams × ({number(process / 1024)} KiB process + "
                     f"{number(kernel / 1024)} KiB kernel) = **{number(scale['memory_gib'])} GiB**.")
    return lines + ["- The same events to fewer, busier streams cost less: W5 says how much."]


def busy_text(results):
    share = results.get("busy_before") or 0
    if share < BUSY_SHARE:
        return []
    return ["", f"**The machine was {share:.0%} busy with other work before the run: these figures are not to be quoted.**"]


def table(results):
    where = results["machine"]
    lines = [f"Commit {results['commit']}, {results['date']}; {where['cpu']}, {where['cpus']} CPUs, {where['memory_gib']} GiB, "
             f"Linux {where['kernel']}, {where['system']}; {results['rounds']} rounds"
             + (" (**quick**: shorter and fewer, no figure to quote)" if results["quick"] else "")
             + f", {results['took_s']:.0f} s.", *busy_text(results), "", "### Goals", ""]
    lines += goal_table(results) + ["", "### Figures", ""]
    for name, work in results["works"].items():
        lines += work_table(name, work)
    return lines + ["### Past one machine", ""] + scale_text(results["scale"])


def plot_data(works):
    """Rows of name, median, min, max of every contestant with a figure."""
    rows = []
    for name, work in works.items():
        for who, found in work["contestants"].items():
            figure = found.get("figure")
            if figure:
                label = f"{name} {who}".replace('"', "'")
                rows.append(f'"{label}" {figure["median"]} {figure["min"]} {figure["max"]}')
    return rows


def plot(results, folder):
    """One SVG for each family of works; none without gnuplot."""
    if not shutil.which("gnuplot"):
        return []
    made = []
    families = {}
    for name, work in results["works"].items():
        families.setdefault((name.split()[0], work["unit"]), {})[name] = work
    for (family, unit), works in families.items():
        rows = plot_data(works)
        if not rows:
            continue
        stem = f"{family}-{next(iter(works)).split()[-1]}" if family == "idle" else family
        path = folder / f"{stem}.svg"
        script = f"""set terminal svg size 900,{120 + 34 * len(rows)} font "sans,12" background "white"
set output "{path}"
set title "{unit} (bar: median, line: min to max)"
set yrange [{len(rows) - 0.3}:-0.7]
set xrange [0:*]
set style fill solid 0.5
set grid xtics
unset key
$rows << EOD
{chr(10).join(rows)}
EOD
plot $rows using ($2/2):0:($2/2):(0.3):ytic(1) with boxxyerror lc rgb "#4477aa", \\
     $rows using 2:0:3:4 with xerrorbars pt 7 ps 0.4 lc rgb "#222222"
"""
        done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True)
        if done.returncode == 0:
            made.append(path.name)
    return made


def write(results, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "results.md").write_text("\n".join(table(results)) + "\n")
    return plot(results, folder)


def write_readme(results, readme):
    """Puts the table between the markers; the rest of the file is people's."""
    text = readme.read_text()
    before, found, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"{readme} has not the two markers")
    readme.write_text(before + BEGIN + "\n\n" + "\n".join(table(results)) + "\n\n" + END + after)


def scale_of(known):
    return verdict.scale(known.get("stream_process"), known.get("stream_kernel"), known.get("delivery_us"))
