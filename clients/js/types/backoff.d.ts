/** Doubles the delay up to a maximum. Jitter keeps many verifiers from retrying at the same moment. */
export class Backoff {
    /** The next delay in milliseconds: between half and all of the current step. */
    nextDelay(): number;
    /** Returns to the first delay after a success. */
    reset(): void;
    #private;
}
