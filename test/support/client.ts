import { createClient, type Client } from 'graphql-ws';
import WebSocket from 'ws';

export interface Refusal {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  readonly extensions: { readonly code: string; readonly facts: Record<string, unknown> };
}

/** A refused call: the first error, with its code. */
export class Refused extends Error {
  readonly code: string;
  readonly facts: Record<string, unknown>;
  readonly all: readonly Refusal[];

  constructor(errors: readonly Refusal[]) {
    super(errors[0]?.message ?? 'refused');
    this.code = errors[0]?.extensions.code ?? '';
    this.facts = errors[0]?.extensions.facts ?? {};
    this.all = errors;
  }
}

type Variables = Record<string, unknown>;

export interface TestClient {
  /** The data of a call; throws Refused. */
  call<Data = Record<string, never>>(query: string, variables?: Variables): Promise<Data>;
  /** Data and errors as they came. */
  raw(query: string, variables?: Variables): Promise<{ data?: unknown; errors?: Refusal[] }>;
  /** Events of a subscription for as long as the loop reads; ends the connection after it. */
  subscribe<Data = Record<string, never>>(
    query: string,
    variables?: Variables,
  ): AsyncGenerator<Data, void, void>;
  get(path: string, headers?: Record<string, string>): Promise<Response>;
}

/** A client of the server at this address; no token = anonymous. */
export function clientOf(address: string, token?: string): TestClient {
  const authorization: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
  const raw: TestClient['raw'] = async (query, variables = {}) => {
    const response = await fetch(`${address}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...authorization },
      body: JSON.stringify({ query, variables }),
    });
    return (await response.json()) as { data?: unknown; errors?: Refusal[] };
  };
  return {
    raw,
    async call<Data>(query: string, variables?: Variables): Promise<Data> {
      const { data, errors } = await raw(query, variables);
      if (errors) throw new Refused(errors);
      return data as Data;
    },
    async *subscribe<Data>(query: string, variables: Variables = {}) {
      const client: Client = createClient({
        url: `${address.replace(/^http/, 'ws')}/graphql`,
        webSocketImpl: WebSocket,
        connectionParams: authorization,
        retryAttempts: 0,
      });
      try {
        for await (const { data, errors } of client.iterate<Data>({ query, variables })) {
          if (errors) throw new Refused(errors as unknown as Refusal[]);
          if (data) yield data;
        }
      } finally {
        await client.dispose();
      }
    },
    get: (path, headers = {}) =>
      fetch(`${address}${path}`, { headers: { ...authorization, ...headers } }),
  };
}
