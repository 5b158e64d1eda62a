import type { NameConditions } from '../database/name-filter.ts';

/** Conditions of a rule, as the other site understands them. */
export interface FollowFilter {
  readonly name?: NameConditions | null | undefined;
  readonly kind?: readonly string[] | null | undefined;
  readonly stream?: string | null | undefined;
  readonly release?: string | null | undefined;
  /** Members of this container there; nothing else is said then. */
  readonly container?: string | null | undefined;
}

/** A rule that a worker looks at; `claim` is the fence. */
export interface RuleClaim {
  readonly id: number;
  readonly claim: number;
  readonly site: string;
  readonly filter: FollowFilter;
  readonly store: string;
  readonly createdBy: string;
  /** What the container that it keeps is called here. */
  readonly mirror: string | null;
  readonly cursor: string | null;
  readonly listedUntil: Date | null;
}
