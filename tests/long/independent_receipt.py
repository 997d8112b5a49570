"""Checks a receipt's hashes as the protocol pages describe them, with Python's own library and
nothing of Sealwire's. The signatures are for openssl: their inputs are written to files.

Arguments: the receipt, the server's public key in DER (SubjectPublicKeyInfo), a folder to write to.
Prints one JSON object: what was paid, and which checks failed.
"""
import base64
import hashlib
import json
import sys


def sha256(data):
    return hashlib.sha256(data).digest()


def unbase64url(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base64url(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def root(leaf, index, size, path):
    """RFC 9162, 2.1.3.2."""
    fn, sn, node = index, size - 1, sha256(b"\x00" + leaf)
    for step in path:
        if sn == 0:
            return None
        if fn % 2 == 1 or fn == sn:
            node = sha256(b"\x01" + step + node)
            while fn % 2 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = sha256(b"\x01" + node + step)
        fn, sn = fn >> 1, sn >> 1
    return node if sn == 0 else None


def thumbprint(jwk):
    """RFC 7638: an RSA key has e, kty and n."""
    members = {name: jwk[name] for name in ("e", "kty", "n")}
    return base64url(sha256(json.dumps(members, separators=(",", ":")).encode()))


def rsa_jwk(der):
    """The JWK of an RSA SubjectPublicKeyInfo (RFC 8017, A.1): after the algorithm, which ends with
    NULL, a BIT STRING of a SEQUENCE of modulus and exponent."""

    def length(at):
        first = der[at]
        if first < 0x80:
            return first, at + 1
        count = first & 0x7F
        return int.from_bytes(der[at + 1 : at + 1 + count], "big"), at + 1 + count

    at = der.index(b"\x05\x00\x03") + 2
    _, at = length(at + 1)
    _, at = length(at + 2)
    numbers = []
    for _ in range(2):
        size, at = length(at + 1)
        numbers.append(der[at : at + size].lstrip(b"\x00"))
        at += size
    return {"e": base64url(numbers[1]), "kty": "RSA", "n": base64url(numbers[0])}


def claims(token):
    return json.loads(unbase64url(token.split(".")[1]))


def write_token(folder, name, token):
    header, payload, signature = token.split(".")
    open(f"{folder}/{name}.input", "w").write(f"{header}.{payload}")
    open(f"{folder}/{name}.signature", "wb").write(unbase64url(signature))


def write_ed25519_key(folder, name, x):
    """RFC 8410, 4: a SubjectPublicKeyInfo is these 12 bytes and the key's 32."""
    spki = bytes.fromhex("302a300506032b6570032100") + x
    open(f"{folder}/{name}.der", "wb").write(spki)


receipt_path, key_path, folder = sys.argv[1:]
proof, checkpoint = open(receipt_path).read().split("\n\n", 1)
lines = proof.split("\n")
extra = json.loads(base64.b64decode(lines[1].removeprefix("extra ")))
index = int(lines[2].removeprefix("index "))
path = [base64.b64decode(line) for line in lines[3:]]
note, signatures = checkpoint.split("\n\n")
origin, size, log_root = note.split("\n")[:3]
key_name, key_signature = signatures.split("\n")[0].removeprefix("— ").split(" ")
key_signature = base64.b64decode(key_signature)

server = thumbprint(rsa_jwk(open(key_path, "rb").read()))
statement, order = claims(extra["statement"]), claims(extra["order"])
delegation, entry = claims(extra["delegation"]), json.loads(extra["entry"])
log_key = unbase64url(statement["log"]["x"])
key_id = sha256(f"{origin}\n".encode() + b"\x01" + log_key)[:4]

checks = {
    "first line": lines[0] == "c2sp.org/tlog-proof@v1",
    "server": {server} == {thumbprint(statement["server"]), order["server"], delegation["server"]},
    "origin": origin == key_name == f"sealwire/{server}",
    "key id": key_signature[:4] == key_id,
    "path": root(extra["entry"].encode(), index, int(size), path) == base64.b64decode(log_root),
    "index": entry["index"] == index,
    "order": base64url(sha256(extra["order"].encode())) == entry["order_sha256"],
    "delegation": base64url(sha256(extra["delegation"].encode())) == entry["delegation_sha256"],
    "payer's key": thumbprint(delegation["key"]) == entry["payer_key"],
    "payer": order["payer"] == entry["payer"] == delegation["account"],
    "id": order["id"] == entry["id"],
    "time": order["iat"] - 60 <= entry["time"] < order["exp"] <= delegation["exp"],
}
if "item" in extra:
    paid = json.loads(extra["item"])
    item_path = [unbase64url(step) for step in extra["item_path"]]
    item_root = root(extra["item"].encode(), paid["index"], order["count"], item_path)
    checks["item"] = base64url(item_root or b"") == order["items_root"] == entry["items_root"]
    checks["total"] = order["total"] == entry["total"] and order["count"] == entry["count"]
else:
    paid = order
    checks["payee"] = all(order[name] == entry[name] for name in ("payee", "payee_key", "amount"))

for name in ("statement", "delegation", "order"):
    write_token(folder, name, extra[name])
open(f"{folder}/checkpoint.input", "w").write(note + "\n")
open(f"{folder}/checkpoint.signature", "wb").write(key_signature[4:])
write_ed25519_key(folder, "checkpoint", log_key)
write_ed25519_key(folder, "order", unbase64url(delegation["session"]["x"]))
result = {name: paid[name] for name in ("payee", "amount")}
result["payer"] = entry["payer"]
result["failed"] = [name for name, holds in checks.items() if not holds]
print(json.dumps(result))
