/** Values by their names, as a request gives them. */
export type Given = Readonly<Record<string, unknown>>;

/**
 * A parameter of a statement whose value each request brings: the statement is written once and run with many. It stands
 * where a value would stand in the SQL, and nothing may depend on what it will be.
 */
export class Late<T = unknown> {
  constructor(readonly of: (given: Given) => T) {}

  map<U>(change: (value: T) => U): Late<U> {
    return new Late((given) => change(this.of(given)));
  }
}

/** The parameters of a statement for one request; throws what the changes of its values throw. */
export const parametersFor = (parameters: readonly unknown[], given: Given): unknown[] =>
  parameters.map((value) => (value instanceof Late ? value.of(given) : value));
