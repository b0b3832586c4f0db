# SPDX-License-Identifier: BSD-2-Clause
"""Results as lines of JSON or as a table."""

import json

from pairs import show


def print_json(result):
    print(json.dumps(result), flush=True)


def setting(result, side):
    name = result[side + "_setting"]
    return show(result[side], result["unit"]) + (" (%s)" % name if name else "")


def row(result):
    peer = result["peer"] + (" " + result["peer_version"] if result["peer_version"] else "")
    sign = ">=" if result["unit"] == "bytes/s" else "<="
    return [result["case"], setting(result, "ours"), setting(result, "theirs"),
            "%.3f (%.3f-%.3f)" % (result["ratio"], result["ratio_min"], result["ratio_max"]), "%s %.2f %s" % (sign, result["target"],
                                                      "met" if result["met"] else "MISSED"),
            str(result["pairs"]), peer]


def print_table(results):
    rows = [["case", "ours", "theirs", "ratio", "target", "pairs", "peer"]] + list(map(row, results))
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        print("  ".join(text.ljust(width) for text, width in zip(r, widths)).rstrip())
    for result in results:
        if "pinned_peak_bytes" in result:
            peak = result["pinned_peak_bytes"]
            print("%s: pinned at most %d MiB at the source, %d MiB at the destination, cap %d MiB" % (
                result["case"], peak["source"] >> 20, peak["destination"] >> 20,
                result["pin_cap_bytes"] >> 20))
        for key, memory in (("by_thread", "present"), ("fresh_by_thread", "fresh")):
            if key in result:
                print("%s: into %s memory %s" % (result["case"], memory, ", ".join(
                    "%s %.2f %%" % (name, 100 * share) for name, share in result[key].items())))
