// Checks a receipt's path and hashes with node:crypto and nothing of ours, as docs/protocol/ledger.md describes them.
// Arguments: the receipt's file, and the server's public key (PEM). The signatures are for openssl.
import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import process from "node:process";

const sha256 = (...parts) =>
  parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const claims = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
const thumbprint = ({ e, kty, n }) => sha256(JSON.stringify({ e, kty, n })).toString("base64url");

/** RFC 9162, 2.1.3.2. */
function root(text, index, count, path) {
  let [fn, sn, node] = [index, count - 1, sha256(Buffer.of(0), text)];
  for (const step of path.map((step) => Buffer.from(step, "base64url"))) {
    if (sn === 0) throw new Error("steps left over");
    const right = fn % 2 === 1 || fn === sn;
    node = right ? sha256(Buffer.of(1), step, node) : sha256(Buffer.of(1), node, step);
    if (right) { for (; fn % 2 === 0 && fn !== 0; fn >>= 1) sn >>= 1; }
    fn >>= 1;
    sn >>= 1;
  }
  return sn === 0 ? node.toString("base64url") : "a step is missing";
}

const receipt = JSON.parse(readFileSync(process.argv[2], "utf8"));
const server = thumbprint(createPublicKey(readFileSync(process.argv[3])).export({ format: "jwk" }));
const [entry, header] = [JSON.parse(receipt.entry), claims(receipt.header)];
const [order, delegation] = [claims(receipt.order), claims(receipt.delegation)];
const item = receipt.item === undefined ? { ...order, index: undefined } : JSON.parse(receipt.item);
const checks = {
  path: root(receipt.entry, entry.seq - header.first, header.count, receipt.path) === header.root,
  itemPath: receipt.item === undefined ||
    root(receipt.item, item.index, order.count, receipt.item_path) === order.items_root,
  orderHash: sha256(receipt.order).toString("base64url") === entry.order_sha256,
  delegationHash: sha256(receipt.delegation).toString("base64url") === entry.delegation_sha256,
  payerKey: thumbprint(delegation.key) === entry.payer_key,
  server: [header.server, order.server, delegation.server].every((named) => named === server),
  payer: order.payer === entry.payer && delegation.account === entry.payer && order.id === entry.id,
  payee: ["index", "payee", "payee_key", "amount"].every((name) => item[name] === entry[name]),
  time: header.time < order.exp && order.exp <= delegation.exp,
};
const { payer, payee, amount } = entry;
console.log(
  JSON.stringify({
    payer,
    payee,
    amount,
    wrong: Object.keys(checks).filter((name) => !checks[name]),
  }),
);
