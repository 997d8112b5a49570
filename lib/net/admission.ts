/**
 * Decides which connections a listener keeps when more come than it has places for. It only keeps
 * the books: the listener tells it what comes and goes, and closes what must give way.
 *
 * A connection is **unproven** until its client has logged in, shown a key, or done what the door
 * is for. Unproven connections count against their address, because they cost a stranger nothing.
 * Proven ones count against their account, because a whole club may sit behind one address.
 *
 * An address from which someone has proven an account within a day is **known**. It may hold more
 * unproven connections, and some places are kept for it. So a club gets back in when its server
 * restarts, whatever strangers do meanwhile.
 *
 * Who gives way:
 *
 * 1. At an address that holds its share: the oldest unproven connection of that address.
 * 2. At a full door: the oldest unproven connection of the strange address that holds most. For a
 *    client of a known address also that of a known address.
 * 3. Where nobody is unproven: the oldest connection of the account that holds most, unless every
 *    account holds one only. Then the newcomer is refused.
 *
 * Within an address, connections that have finished their TLS handshake and those that have not are
 * two groups. The larger group gives way. So a flood of silent connections does not push out a
 * neighbour who is about to log in.
 */
import { BoundedMap } from "../base/bounded_map.ts";
import { Ranking } from "../base/ranking.ts";
import { addressGroup } from "./address.ts";

/** The share of all places, and the most, that unproven connections of one address may hold. */
export const STRANGE_ADDRESS_SHARE = 1 / 8;
export const STRANGE_ADDRESS_UNPROVEN_MAX = 512;
/** The same for a known address. */
export const KNOWN_ADDRESS_SHARE = 1 / 4;
export const KNOWN_ADDRESS_UNPROVEN_MAX = 1_024;
/** The share of all places that strange addresses leave free for known ones. */
export const KEPT_SHARE = 1 / 8;
/** How long an address stays known, and how many addresses are remembered. */
export const KNOWN_ADDRESS_MS = 24 * 60 * 60 * 1000;
export const KNOWN_ADDRESSES_MAX = 10_000;

export interface AdmissionOptions {
  /** All places of the listener. */
  readonly connections_max: number;
  /** Called when a connection is refused or gives way: for lack of places, or of its address. */
  readonly onPressure?: (lack: "door" | "address") => void;
  /** A clock that never jumps. */
  readonly now_ms?: () => number;
}

/** A place that a connection holds until it leaves. */
export interface Place {
  /** Says that the TLS handshake is finished. */
  greet(): void;
  /**
   * Says that the client has proven to be `account`. Null where the proof itself is trust enough:
   * such a connection never gives way. May be called once.
   */
  prove(account: string | null): void;
}

export class Admission {
  private readonly addresses = new Map<string, Address>();
  private readonly strange = new Ranking<Address>();
  private readonly known = new Ranking<Address>();
  private readonly accounts = new Map<string, Account>();
  private readonly accountRanking = new Ranking<Account>();
  private readonly knownSince_ms = new BoundedMap<string, number>(KNOWN_ADDRESSES_MAX);
  private readonly strangeMax: number;
  private readonly knownMax: number;
  private readonly placesOfStrangers: number;
  private readonly now_ms: () => number;
  private taken = 0;

  constructor(private readonly options: AdmissionOptions) {
    const { connections_max, now_ms = () => performance.now() } = options;
    const share = (part: number, max: number) =>
      Math.max(1, Math.min(max, Math.floor(connections_max * part)));
    this.strangeMax = share(STRANGE_ADDRESS_SHARE, STRANGE_ADDRESS_UNPROVEN_MAX);
    this.knownMax = share(KNOWN_ADDRESS_SHARE, KNOWN_ADDRESS_UNPROVEN_MAX);
    this.placesOfStrangers = connections_max - Math.floor(connections_max * KEPT_SHARE);
    this.now_ms = now_ms;
  }

  /** How many places are taken. */
  get size(): number {
    return this.taken;
  }

  /**
   * Gives a new connection from `host` a place, or null where there is none for it. `giveWay` closes
   * the connection. It is called at most once, after the place was taken back.
   */
  enter(host: string, giveWay: () => void): (Place & { leave(): void }) | null {
    const name = addressGroup(host);
    const address = this.addresses.get(name) ?? new Address(name, this.isKnown(name));
    const addressIsFull = address.size >= (address.isKnown ? this.knownMax : this.strangeMax);
    if (addressIsFull) this.displace(address.oldest(), "address");
    const places = address.isKnown ? this.options.connections_max : this.placesOfStrangers;
    while (this.taken >= places) {
      const victim = this.victimFor(address);
      if (victim === null) {
        this.options.onPressure?.("door");
        return null;
      }
      this.displace(victim, "door");
    }
    this.addresses.set(name, address);
    this.taken++;
    const guest = new Guest(this, address, giveWay);
    this.list(address, () => address.add(guest));
    return guest;
  }

  /** Called by the guest. */
  greet(guest: Guest): void {
    guest.address.greet(guest);
  }

  /** Called by the guest. */
  prove(guest: Guest, accountName: string | null): void {
    const { address } = guest;
    this.list(address, () => {
      address.remove(guest);
      address.isKnown = true;
    });
    this.knownSince_ms.delete(address.name);
    this.knownSince_ms.set(address.name, this.now_ms());
    if (accountName === null) return;
    const account = this.accounts.get(accountName) ?? new Account(accountName);
    this.accounts.set(accountName, account);
    account.guests.add(guest);
    guest.account = account;
    this.accountRanking.move(account, account.guests.size - 1, account.guests.size);
  }

  /** Called by the guest. */
  leave(guest: Guest): void {
    this.taken--;
    const { address, account } = guest;
    this.list(address, () => address.remove(guest));
    if (account === null) return;
    account.guests.delete(guest);
    this.accountRanking.move(account, account.guests.size + 1, account.guests.size);
    if (account.guests.size === 0) this.accounts.delete(account.name);
  }

  private victimFor(newcomer: Address): Guest | null {
    const crowded = this.strange.first() ?? (newcomer.isKnown ? this.known.first() : null);
    if (crowded !== null) return crowded.item.oldest();
    const busiest = this.accountRanking.first();
    return busiest !== null && busiest.count > 1 ? firstOf(busiest.item.guests) : null;
  }

  private displace(guest: Guest, lack: "door" | "address"): void {
    guest.leave();
    guest.giveWay();
    this.options.onPressure?.(lack);
  }

  /** Changes an address, and lists it where it belongs then. */
  private list(address: Address, change: () => void): void {
    this.rankingOf(address).move(address, address.size, 0);
    change();
    this.rankingOf(address).move(address, 0, address.size);
    if (address.size === 0) this.addresses.delete(address.name);
  }

  private rankingOf({ isKnown }: Address): Ranking<Address> {
    return isKnown ? this.known : this.strange;
  }

  private isKnown(name: string): boolean {
    const since_ms = this.knownSince_ms.get(name);
    return since_ms !== undefined && this.now_ms() - since_ms < KNOWN_ADDRESS_MS;
  }
}

/** A connection at the listener. */
class Guest implements Place {
  account: Account | null = null;
  private proven = false;
  private left = false;

  constructor(
    private readonly admission: Admission,
    readonly address: Address,
    readonly giveWay: () => void,
  ) {}

  greet(): void {
    if (!this.proven && !this.left) this.admission.greet(this);
  }

  prove(account: string | null): void {
    if (this.proven || this.left) return;
    this.proven = true;
    this.admission.prove(this, account);
  }

  leave(): void {
    if (this.left) return;
    this.left = true;
    this.admission.leave(this);
  }
}

/** The unproven connections of one address, the oldest first. */
class Address {
  private readonly silent = new Set<Guest>();
  private readonly greeted = new Set<Guest>();

  constructor(readonly name: string, public isKnown: boolean) {}

  get size(): number {
    return this.silent.size + this.greeted.size;
  }

  add(guest: Guest): void {
    this.silent.add(guest);
  }

  greet(guest: Guest): void {
    if (this.silent.delete(guest)) this.greeted.add(guest);
  }

  remove(guest: Guest): void {
    if (!this.silent.delete(guest)) this.greeted.delete(guest);
  }

  /** The oldest of the larger group. Call it only where there is one. */
  oldest(): Guest {
    return firstOf(this.silent.size >= this.greeted.size ? this.silent : this.greeted);
  }
}

/** The proven connections of one account, the oldest first. */
class Account {
  readonly guests = new Set<Guest>();

  constructor(readonly name: string) {}
}

function firstOf<Item>(items: ReadonlySet<Item>): Item {
  const [first] = items;
  return first!;
}
