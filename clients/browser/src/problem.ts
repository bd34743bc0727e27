import type { FieldError, Problem } from "./api.js";
import type { Enrolment, SecondFactor } from "./client.js";

/** An error response of Latchkey (RFC 9457). Branch on `code`; `detail` is for people. */
export class LatchkeyProblem extends Error {
  override readonly name = "LatchkeyProblem";
  readonly status: number;
  readonly code: Problem["code"];
  readonly detail: string;
  /** The invalid fields of a form; empty for other problems. */
  readonly errors: readonly FieldError[];
  readonly requestId: string | undefined;
  /** Seconds to wait before a retry, from `Retry-After`. */
  readonly retryAfter: number | undefined;
  /** The second step that the sign-in needs; set for the code `second_factor_required`. */
  readonly secondFactor: SecondFactor | undefined;
  /** The second factor that must be set up to complete the sign-in; set for the code `factor_enrolment_required`. */
  readonly enrolment: Enrolment | undefined;

  constructor(problem: Problem, retryAfter?: number) {
    super(problem.detail || problem.title);
    this.status = problem.status;
    this.code = problem.code;
    this.detail = problem.detail;
    this.errors = problem.errors ?? [];
    this.requestId = problem.request_id;
    this.retryAfter = retryAfter;
    const { challenge, methods = [], expires_in: expiresIn = 0, remember_device_for: rememberDeviceFor } = problem;
    // an optional property must be absent instead of undefined (`exactOptionalPropertyTypes`)
    const optional = rememberDeviceFor === undefined ? {} : { rememberDeviceFor };
    const step = challenge ? { challenge, methods, expiresIn, ...optional } : undefined;
    this.secondFactor = problem.code === "second_factor_required" ? step : undefined;
    this.enrolment = problem.code === "factor_enrolment_required" ? step : undefined;
  }

  /** The error of one form field, if that field is invalid. */
  field(name: string): FieldError | undefined {
    return this.errors.find((error) => error.field === name);
  }
}

/** Latchkey could not be reached or did not answer in time. The session is unchanged: retry later. */
export class LatchkeyUnreachable extends Error {
  override readonly name = "LatchkeyUnreachable";
  constructor(cause: unknown) {
    super("Latchkey cannot be reached", { cause });
  }
}

/** Nobody is signed in, or the session has ended. */
export class SignedOut extends Error {
  override readonly name = "SignedOut";
  /** The code of the problem that ended the session; undefined if nobody was signed in. */
  readonly code: Problem["code"] | undefined;
  constructor(code?: Problem["code"]) {
    super("Nobody is signed in");
    this.code = code;
  }
}

/** Reads an error response of Latchkey or of a proxy. */
export async function problemOf(response: Response): Promise<LatchkeyProblem> {
  // NaN for a missing header (`Number(null)` is 0), and for a date, which only a proxy sends
  const seconds = Number(response.headers.get("retry-after") ?? NaN);
  const retryAfter = Number.isFinite(seconds) ? seconds : undefined;
  let body: Partial<Problem> = {};
  try {
    body = (await response.json()) as Partial<Problem>;
  } catch {
    // not JSON: a proxy's page
  }
  // a proxy's response may lack any field
  const fallback = { type: "about:blank", title: response.statusText, detail: response.statusText, code: "unknown" };
  return new LatchkeyProblem({ ...fallback, ...body, status: response.status } as Problem, retryAfter);
}
