"""What the figures mean: medians, goals, and which runs have no figure. Nothing here starts or reads anything."""

import re
import statistics

FLOOR_TO_NGINX_MAX = 0.87  # BENCH.md: above it the floor is none, and the run is void


def summary(values):
    """min, median, max of what there is; None of nothing."""
    values = [value for value in values if value is not None]
    if not values:
        return None
    return {"min": min(values), "median": statistics.median(values), "max": max(values), "count": len(values)}


def complaint(report, may_end=False, may_lose=False):
    """Why a load generator's report has no figure, or None."""
    bad = [name for name in ("failed", "wrong", "duplicates") if report.get(name)]
    bad += ["lost"] if report.get("lost") and not may_lose else []
    bad += ["ended"] if report.get("ended") and not may_end else []
    if bad:
        return ", ".join(f"{name} {report[name]}" for name in bad)
    if report.get("exit_code") and not (may_end or may_lose):
        return f"exit code {report['exit_code']}"
    if not report.get("units"):
        return "nothing was measured"
    return None


def floor_is_void(floor, nginx):
    """A floor that is hardly below nginx is no floor. Unknown (None) if one of them is missing."""
    if floor is None or nginx is None:
        return None
    return floor > FLOOR_TO_NGINX_MAX * nginx


def goal(text, value, limit, above=False):
    """One row of the goal column; without a value or a limit it is not known, which is not reached either."""
    known = value is not None and limit is not None
    reached = known and (value >= limit if above else value <= limit)
    return {"text": text, "value": value, "limit": limit, "above": above,
            "verdict": "reached" if reached else "not reached" if known else "no figure"}


def told(text, reached):
    """A goal that is a yes or a no; None is not known."""
    verdict = "no figure" if reached is None else "reached" if reached else "not reached"
    return {"text": text, "value": None, "limit": None, "above": False, "verdict": verdict}


def void(goals, why):
    for row in goals:
        row["verdict"] = f"void: {why}"
    return goals


def times(factor, value):
    return None if value is None else factor * value


def plus(*values):
    return None if None in values else sum(values)


def over(value, divisor):
    return None if value is None or not divisor else value / divisor


def bucket_counts(metrics, name, labels=""):
    """{upper bound: cumulative count} of a histogram, summed over what matches the labels."""
    counts = {}
    for key, value in metrics.items():
        found = re.fullmatch(re.escape(name) + r"_bucket\{(.*)\}", key)
        if not found or labels not in found.group(1):
            continue
        bound = float(re.search(r'le="([^"]+)"', found.group(1)).group(1).replace("+Inf", "inf"))
        counts[bound] = counts.get(bound, 0) + value
    return counts


def quantile_bound(before, after, quantile):
    """The bound of the bucket in which this quantile of what came between two readings lies."""
    grown = {bound: after[bound] - before.get(bound, 0) for bound in after}
    if not grown or not max(grown.values()):
        return None
    whole = max(grown.values())
    return min(bound for bound, count in grown.items() if count >= quantile * whole)


def scale(stream_process, stream_kernel, delivery_us, streams=1_000_000, deliveries=500_000):
    """Cores and memory for a target, from the cost of one stream and one delivery. None where a figure is missing."""
    out = {"streams": streams, "deliveries_per_s": deliveries, "stream_process_bytes": stream_process,
           "stream_kernel_bytes": stream_kernel, "delivery_us": delivery_us}
    out["cores"] = None if delivery_us is None else deliveries * delivery_us / 1e6
    out["memory_gib"] = over(times(streams, plus(stream_process, stream_kernel)), 2**30)
    return out
