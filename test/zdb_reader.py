"""zdb_reader.py DATA INDEX [COPIES]: lists the live keys and values of a zdb namespace that nobody has open, from zdb/FORMAT.md alone.
COPIES has data segments that DATA lacks. A line is key and value in hex, or "? d<N> offset length" for a value that is not there."""
import os, re, sys
from struct import iter_unpack, unpack_from
TABLE, live = list(range(256)), {}  # key: (sequence, whether the value is here, whether it is a delete, the value's text)
for _ in range(8):
    TABLE = [c >> 1 ^ (c & 1) * 0x82F63B78 for c in TABLE]
need = lambda ok, what: ok or sys.exit(what)
def summed(p, more=b""):  # p ends in the CRC32C of what is before that and of more
    c = 0xFFFFFFFF
    for b in p[:-4] + more:
        c = TABLE[(c ^ b) & 255] ^ c >> 8
    return len(p) >= 4 and c ^ 0xFFFFFFFF == unpack_from("<I", p, len(p) - 4)[0]
def put(key, seq, here, delete, text):
    if (seq, here) >= live.get(key, (0, False))[:2]:
        live[key] = seq, here, delete, text
def batch(p, at, n, incarnation, put):  # gives its end and what of d<n> it knows to be durable, or None
    h = p[at:at + 96]
    if h[:6] != b"QzBt\1\0" or not summed(h) or (h[40:44], h[56:72], h[80:88]) != (n.to_bytes(4, "little"), incarnation, at.to_bytes(8, "little")):
        return None
    count, size, seq, segment, durable = unpack_from("<IIQ20xIQ", h, 8)
    body, pos = p[at + 96:at + 100 + size], 0
    if len(body) != size + 4 or not summed(body, h):
        return None
    for _ in range(count):
        flags, klen, vlen = unpack_from("<BxHI", body, pos)
        moved, key = flags & 2, pos + (24 if flags & 2 else 8)
        value = key + klen + -(-vlen // 16384) * 4
        put(body[key:key + klen], unpack_from("<Q", body, pos + 8)[0] if moved else seq, True, flags & 1, body[value:value + vlen].hex())
        pos, seq = value + vlen, seq + (not moved)
    return at + 100 + size, durable if segment == n else 0
def names(kind, *dirs):
    return {int(f[1:]): os.path.join(t, f) for t in dirs for f in os.listdir(t) if re.fullmatch(kind + r"(0|[1-9]\d*)", f)}
read = lambda path: open(path, "rb").read() if path and os.path.exists(path) else b""
index, copies, gaps = names("i", sys.argv[2]), names("d", *sys.argv[3:], sys.argv[1]), read(sys.argv[1] + "/removed")
need(not gaps or gaps[:9] == b"QZDBGAPS\1" and summed(gaps), "removed is damaged")
removed = {n for a, b in iter_unpack("<II", gaps[16:-4]) for n in range(a, b)}
segments = sorted((copies.keys() | index.keys()) - removed)
lengths = dict(unpack_from("<I4xQ", read(copies[n]), 64) for n in segments if n in copies)  # as the segment after it says
for n in segments:
    x, p = read(index.get(n)), read(copies.get(n))
    foot = x[len(x) - 16 - unpack_from("<I", x, len(x) - 16)[0]:-16] if x else b""
    need(not x or x[-8:] + foot[:8] == b"QZDBTAILQZDBFOOT" and foot[8:10] in (b"\1\0", b"\2\0") and summed(foot), f"i{n} is damaged")
    at, length = 64, unpack_from("<Q", foot, 40)[0] if x else lengths.get(n, len(p) if n != segments[-1] else None)
    while not p and at < len(x) - 16 - len(foot):
        flags, klen, vlen, offset, seq = unpack_from("<BxHIQQ", x, at)
        need(summed(x[at:at + 40], x[at + 40:at + 40 + klen]), f"i{n} is damaged at {at}")
        put(x[at + 40:at + 40 + klen], seq, False, flags & 1, f"? d{n} {offset} {vlen}")
        at += 40 + klen
    need(not p or p[:10] == b"QZDBDATA\1\0" and summed(p[:256]), f"the header of d{n} is damaged")
    p, at, bound = p[:length], 256, (length or unpack_from("<Q", p, 80)[0]) if p else 0
    while b := batch(p, at, n, p[16:32], put):
        at, bound = b[0], max(bound, b[1])
    for m in re.finditer(b"QzBt", p[at:]):  # what stands behind the end may know that this was durable
        bound = max(bound, (batch(p, at + m.start(), n, p[16:32], lambda *_: None) or (0, 0))[1])
    need(at >= bound, f"d{n} is damaged at {at}")
for key in sorted(k for k in live if not live[k][2]):
    print(key.hex(), live[key][3])
lost = sorted(set(range(segments[-1] if gaps and segments else 0)) - removed - set(segments))
need(not lost, f"lost segments: {lost}")
