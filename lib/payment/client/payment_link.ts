/**
 * Payment links: what a payee hands out so that someone can pay. `sealwire://<host>:<port>/<server>/<payee>/<request>` names a
 * request that the server keeps; with an amount in the last place it may be paid any number of times.
 *
 * A link says where to go and gives no reason to trust what is there: the server must have the key whose thumbprint it names,
 * and be trusted already or by a person's word.
 */
import { SealwireError } from "../../base/errors.ts";
import { isSha256, isUuid, type Sha256, type Uuid } from "../../base/parse.ts";
import { type AccountName, parseAccountName } from "../../keys/rsa.ts";
import { formatAddress, plainHost } from "../../net/net.ts";
import { type Amount, formatAmount, parseWireAmount } from "../../protocol/money.ts";

const SCHEME = "sealwire://";
/** The QR code of a longer one, version 13 at the lowest level of correction, does not fit 80 columns. */
const LINK_BYTES_MAX = 425;
const LINK =
  /^sealwire:\/\/(\[[0-9a-f:.]+\]|[a-z0-9._-]+):([1-9]\d{0,4})\/([^/]+)\/([^/]+)\/([^/]+)$/;
const PORT_MAX = 65_535;

export interface PaymentLink {
  readonly host: string;
  readonly port: number;
  /** Thumbprint of the server's key. */
  readonly server: Sha256;
  readonly payee: AccountName;
  readonly pays: LinkPurpose;
}

export type LinkPurpose =
  | { readonly kind: "request"; readonly request: Uuid }
  | { readonly kind: "amount"; readonly amount: Amount };

export function isPaymentLink(text: string): boolean {
  return text.toLowerCase().startsWith(SCHEME);
}

/** @throws {SealwireError} `bad_link` when it would be too long for a QR code. */
export function formatPaymentLink({ host, port, server, payee, pays }: PaymentLink): string {
  const last = pays.kind === "request" ? pays.request : formatAmount(pays.amount);
  const address = formatAddress(host.toLowerCase(), port);
  const link = `${SCHEME}${address}/${server}/${payee}/${last}`;
  parsePaymentLink(link);
  return link;
}

/** @throws {SealwireError} `bad_link`. */
export function parsePaymentLink(text: string): PaymentLink {
  const [, host, port, server, payee, last] = LINK.exec(text) ?? [];
  const isLong = text.length > LINK_BYTES_MAX;
  if (isLong || host === undefined || Number(port) > PORT_MAX || !isSha256(server)) {
    throw badLink();
  }
  try {
    return {
      host: plainHost(host),
      port: Number(port),
      server,
      payee: parseAccountName(payee),
      pays: isUuid(last)
        ? { kind: "request", request: last }
        : { kind: "amount", amount: parseWireAmount(last) },
    };
  } catch (cause) {
    throw badLink(cause);
  }
}

function badLink(cause?: unknown): SealwireError {
  return new SealwireError(
    "bad_link",
    "this is no payment link, or a part of it is missing: ask for it again",
    { cause },
  );
}
