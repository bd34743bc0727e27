/** Delays that double up to a maximum. Jitter keeps many verifiers from retrying at the same moment. */
export class Backoff {
    /** Returns a random delay between half the current step and the whole step, in milliseconds, and doubles the step. */
    nextDelay(): number;
    /** Returns to the first step. Callers call it after a success. */
    reset(): void;
    #private;
}
