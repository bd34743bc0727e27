/** Doubles. Each wait is drawn from the upper half, so that many don't come at once. */
export class BackOff {
    /** How long to wait now, in milliseconds. */
    wait(): number;
    /** It went well: the next wait is the first one again. */
    reset(): void;
    #private;
}
