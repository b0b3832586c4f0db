# SPDX-License-Identifier: BSD-2-Clause
"""bench/peers over verbs, in the test machine: each peer started for real, on little memory."""

from migrate import check, main
from peers import KEYS, TCP, peers

SMALL = TCP[:1] + ["--size", "32M", "--pairs", "1"] + TCP[3:]


def one_result(done, case, peer):
    check(done.returncode == 0 and len(done.json) == 1, done)
    result = done.json[0]
    check(KEYS <= set(result), KEYS - set(result))
    check(result["case"] == case and result["transport"] == "rdma", result)
    check(result["peer"].startswith(peer) and result["peer_version"], result)
    check(result["ours"] > 0 and result["theirs"] > 0 and result["pairs"] == 1, result)
    check(abs(result["ratio"] - result["ours"] / result["theirs"]) < 1e-9, result)
    return result


def case_ib_write_bw():
    for case in ("rdma-64k", "rdma-4k-scattered"):
        result = one_result(peers(*SMALL, case), case, "ib_write_bw")
        check(result["unit"] == "bytes/s" and result["theirs"] > 1e5, result)


def case_qemu():
    result = one_result(peers(*SMALL, "rdma-qemu-pin-all"), "rdma-qemu-pin-all", "QEMU rdma:")
    check(result["unit"] == "s", result)


def case_what_is_pinned_is_seen():
    done = peers(*SMALL, "rdma-lazy")
    if done.returncode == 3:
        check("has no --register" in done.stderr, done)
        return
    result = one_result(done, "rdma-lazy", "ramjet-migrate")
    check(0 < max(result["pinned_peak_bytes"].values()) <= 32 << 20, result)


if __name__ == "__main__":
    main(globals())
