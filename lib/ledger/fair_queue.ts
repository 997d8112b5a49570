/**
 * A queue that serves addresses in turn, and within an address its accounts. However much one of
 * them has waiting, another waits for one turn only.
 *
 * Each turn of an address is worth {@linkcode TURN_WEIGHT}. What is heavier takes several turns
 * while others wait (deficit round robin: Shreedhar and Varghese, 1995).
 *
 * When the queue is full, the address that holds most loses what came last of its account that holds
 * most. So whoever holds little always finds room.
 */
import { Ranking } from "../base/ranking.ts";

/** What an address may have served before the next one has its turn. */
const TURN_WEIGHT = 50;

/** Who has something to be done. */
export interface Origin {
  readonly address: string;
  readonly account: string;
}

const OPERATOR: Origin = { address: "", account: "" };

interface Item<Work> {
  readonly work: Work;
  readonly weight: number;
}

interface AccountLine<Work> {
  readonly name: string;
  readonly items: Item<Work>[];
  weight: number;
}

interface AddressLine<Work> {
  readonly name: string;
  /** The one whose turn is next first. */
  readonly accounts: Map<string, AccountLine<Work>>;
  readonly byWeight: Ranking<AccountLine<Work>>;
  weight: number;
  /** What it may still have served in its turn. */
  credit: number;
}

export class FairQueue<Work> {
  /** The one whose turn is next first. */
  private readonly addresses = new Map<string, AddressLine<Work>>();
  private readonly byWeight = new Ranking<AddressLine<Work>>();
  private waiting_weight = 0;

  /** `onPushedOut` gets what has lost its place in the full queue. */
  constructor(
    private readonly weight_max: number,
    private readonly onPushedOut: (work: Work) => void,
  ) {}

  /** The weight of all that waits. */
  get weight(): number {
    return this.waiting_weight;
  }

  /** Adds work. What is pushed out may be this very work. `origin` null: it is the operator's. */
  add(origin: Origin | null, work: Work, weight: number): void {
    const { address: addressName, account: accountName } = origin ?? OPERATOR;
    const address = this.addresses.get(addressName) ??
      { name: addressName, accounts: new Map(), byWeight: new Ranking(), weight: 0, credit: 0 };
    const account = address.accounts.get(accountName) ??
      { name: accountName, items: [], weight: 0 };
    account.items.push({ work, weight });
    this.addresses.set(addressName, address);
    address.accounts.set(accountName, account);
    this.count(address, account, weight);
    while (this.waiting_weight > this.weight_max) this.pushOut();
  }

  /** Takes the work whose turn is next, if its weight is at most `weight_max`. Null otherwise. */
  take(weight_max: number): Work | null {
    while (true) {
      const [address] = this.addresses.values();
      if (address === undefined) return null;
      const [account] = address.accounts.values();
      const { work, weight } = account!.items[0]!;
      // Alone it need not wait for turns.
      if (address.credit < weight && this.addresses.size > 1) {
        address.credit += TURN_WEIGHT;
        if (address.credit < weight) {
          moveToEnd(this.addresses, address.name, address);
          continue;
        }
      }
      if (weight > weight_max) return null;
      this.remove(address, account!, weight);
      return work;
    }
  }

  private pushOut(): void {
    const address = this.byWeight.first()!.item;
    const account = address.byWeight.first()!.item;
    const { work, weight } = account.items.pop()!;
    this.count(address, account, -weight);
    this.forgetEmpty(address, account);
    this.onPushedOut(work);
  }

  private remove(address: AddressLine<Work>, account: AccountLine<Work>, weight: number): void {
    account.items.shift();
    this.count(address, account, -weight);
    address.credit = Math.max(0, address.credit - weight);
    moveToEnd(address.accounts, account.name, account);
    if (address.credit === 0) moveToEnd(this.addresses, address.name, address);
    this.forgetEmpty(address, account);
  }

  private forgetEmpty(address: AddressLine<Work>, account: AccountLine<Work>): void {
    if (account.items.length === 0) address.accounts.delete(account.name);
    if (address.accounts.size === 0) this.addresses.delete(address.name);
  }

  private count(address: AddressLine<Work>, account: AccountLine<Work>, weight: number): void {
    address.byWeight.move(account, account.weight, account.weight + weight);
    this.byWeight.move(address, address.weight, address.weight + weight);
    account.weight += weight;
    address.weight += weight;
    this.waiting_weight += weight;
  }
}

function moveToEnd<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key);
  map.set(key, value);
}
