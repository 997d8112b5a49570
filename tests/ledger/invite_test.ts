import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import fc from "fast-check";
import { INVITE_BALANCE_MAX, makeInvite, openInvite } from "../../lib/ledger/invite.ts";
import { Seals } from "../../lib/ledger/seal.ts";

const seals = new Seals(randomBytes(32));
const refused = { code: "bad_invite" };

describe("an invite", () => {
  test("comes back with its balance and one id, for each code another", () => {
    const balances = fc.bigInt({ min: 0n, max: INVITE_BALANCE_MAX });
    const ids = new Set<string>();
    fc.assert(
      fc.property(balances, (balance) => {
        const made = makeInvite(seals, balance);
        assert.deepEqual(openInvite(seals, made.code), made);
        assert.equal(made.balance, balance);
        assert.match(made.id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
        ids.add(made.id);
      }),
    );
    assert.equal(ids.size, 100);
  });

  test("of another server, or changed in any character, is none", () => {
    const { code } = makeInvite(seals, 5_000n);
    assert.throws(() => openInvite(new Seals(randomBytes(32)), code), refused);
    for (let at = 0; at < code.length; at++) {
      const other = code.slice(0, at) + (code[at] === "A" ? "B" : "A") + code.slice(at + 1);
      assert.throws(() => openInvite(seals, other), refused, other);
    }
    for (const other of ["", code + "A", code.slice(1), `${code}\n`, null, 5, {}, [code]]) {
      assert.throws(() => openInvite(seals, other), refused);
    }
  });
});
