/**
 * A client's session with a classic server: one question at a time, because an answer does not
 * say which question it answers.
 */
import { Buffer } from "node:buffer";
import { isSealwireError, SealwireError, toSealwireError } from "../../base/errors.ts";
import type { Connection } from "../../net/net.ts";
import { connectClassicServer, type ConnectServerOptions } from "../client/connect.ts";
import {
  ANSWERS,
  type ClassicList,
  formatLogin,
  formatRegister,
  parseList,
  refusalOf,
} from "./format.ts";

/** Longer than any answer. A peer that sends more is not a classic server. */
const ANSWER_BYTES_MAX = 16 * 1024;
/** How long to wait for the rest of an answer that looks incomplete. */
const ANSWER_GAP_MS = 500;
const EXIT_TIMEOUT_MS = 2_000;

/** A question that waits for its answer. */
interface Waiting {
  readonly isWhole: (answer: string) => boolean;
  readonly resolve: (answer: string) => void;
  readonly reject: (error: unknown) => void;
}

export class ClassicSession {
  /** Why the session ended. Null while it lasts. */
  readonly closed: Promise<SealwireError>;
  private waiting: Waiting | null = null;
  private answer = "";
  private gap: ReturnType<typeof setTimeout> | undefined;
  private lastAsked: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly connection: Connection,
    private readonly options: ConnectServerOptions,
  ) {
    this.closed = this.listen();
  }

  /** Connects over TLS without ALPN. Throws what `connectClassicServer` throws. */
  static async connect(options: ConnectServerOptions): Promise<ClassicSession> {
    return new ClassicSession(await connectClassicServer(options), options);
  }

  /** @throws {SealwireError} `name_taken`, `bad_answer`, `connection_lost`, `timeout`. */
  async register(name: string): Promise<void> {
    const answer = await this.ask(formatRegister(name));
    if (answer !== ANSWERS.registered) throw refusalOf(answer);
  }

  /**
   * @throws {SealwireError} `login_refused`, `bad_port`, `bad_answer`, `connection_lost`,
   * `timeout`.
   */
  async login(name: string, port: number): Promise<ClassicList> {
    return await this.askList(formatLogin(name, port));
  }

  /** @throws {SealwireError} `login_required`, `bad_answer`, `connection_lost`, `timeout`. */
  async list(): Promise<ClassicList> {
    return await this.askList("List");
  }

  /**
   * Sends `<payer>#<amount>#<payee>` and returns the server's answer. Throws `connection_lost`,
   * `timeout`.
   */
  order(text: string): Promise<string> {
    return this.ask(text);
  }

  /** Sends Exit and closes the connection. */
  async exit(): Promise<void> {
    try {
      await this.ask("Exit", undefined, EXIT_TIMEOUT_MS);
    } catch (error) {
      // The session ends either way.
      if (!isSealwireError(error)) throw error;
    }
    this.connection.destroy();
  }

  private async askList(question: string): Promise<ClassicList> {
    const answer = await this.ask(
      question,
      (answer) => parseList(answer)?.complete ?? /^[^\d][^\n]*\n$|^\d{3} [^\n]*\n$/.test(answer),
    );
    // Bytes were taken one for one; a name may be any text.
    const list = parseList(Buffer.from(answer, "latin1").toString("utf8"));
    if (list === null) throw refusalOf(answer);
    return list;
  }

  private ask(
    question: string,
    isWhole: Waiting["isWhole"] = (answer) => answer.endsWith("\n"),
    timeout_ms = this.options.timeout_ms,
  ): Promise<string> {
    const answered = this.lastAsked.then(() => this.askNow(question, isWhole, timeout_ms));
    this.lastAsked = answered.catch(() => {});
    return answered;
  }

  private async askNow(
    question: string,
    isWhole: Waiting["isWhole"],
    timeout_ms: number,
  ): Promise<string> {
    const { promise: answer, resolve, reject } = Promise.withResolvers<string>();
    // The write may have failed before, and then nobody waits for this rejection.
    answer.catch(() => {});
    this.answer = "";
    this.waiting = { isWhole, resolve, reject };
    const timer = setTimeout(() => {
      // A late answer would be taken for the answer to the next question.
      this.connection.destroy();
      const seconds = timeout_ms / 1000;
      reject(new SealwireError("timeout", `the server did not answer within ${seconds} s`));
    }, timeout_ms);
    try {
      await this.connection.write(new TextEncoder().encode(question));
      return await answer;
    } finally {
      clearTimeout(timer);
      clearTimeout(this.gap);
      this.waiting = null;
    }
  }

  /** Reads until the connection ends, and says why it did. */
  private async listen(): Promise<SealwireError> {
    const reason = await this.readAll().catch((error) => toSealwireError(error));
    this.connection.destroy();
    this.waiting?.reject(reason);
    return reason;
  }

  private async readAll(): Promise<SealwireError> {
    while (true) {
      const bytes = await this.connection.read();
      if (bytes === null) {
        return new SealwireError("connection_lost", "the server closed the connection");
      }
      this.hear(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1"));
    }
  }

  private hear(text: string): void {
    // No question is waiting, so this answers nothing.
    if (this.waiting === null) return;
    // The C++ server also sends the NUL at the end of some of its texts.
    this.answer += text.replaceAll("\0", "");
    if (this.answer.length > ANSWER_BYTES_MAX) {
      throw new SealwireError("bad_answer", "the server's answer is too long");
    }
    clearTimeout(this.gap);
    if (this.waiting.isWhole(this.answer)) this.waiting.resolve(this.answer);
    else this.gap = setTimeout(() => this.waiting?.resolve(this.answer), ANSWER_GAP_MS);
  }
}
