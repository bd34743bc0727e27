/** Doubles the delay up to a maximum. Jitter keeps many verifiers from retrying at the same moment. */
export class Backoff {
    /** Returns the next delay in milliseconds: a random one between half of the doubled delay and all of it. */
    nextDelay(): number;
    /** Returns to the first delay after a success. */
    reset(): void;
    #private;
}
