import type { Client } from 'graphql-ws';
import type { ClientSettings } from '../client-settings.ts';

interface Connection<Data> {
  /** Ends when the server completes the subscription, throws when the connection is lost. */
  readonly items: AsyncIterableIterator<SubscriptionItem<Data>>;
  dispose(): void;
}

interface SubscriptionItem<Data> {
  readonly data?: Data | null;
  readonly errors?: readonly {
    readonly message: string;
    readonly extensions?: Readonly<Record<string, unknown>>;
  }[];
}

/** One subscription over one connection, which is not made again when it is lost. */
export function subscribe<Data>(
  settings: ClientSettings,
  query: string,
  variables: Record<string, unknown>,
  onConnected: () => void = () => undefined,
): Connection<Data> {
  const opening = openClient(settings, onConnected);
  let isDisposed = false;
  async function* items() {
    const client = await opening;
    if (isDisposed) return;
    yield* client.iterate<Data>({ query, variables }) as AsyncIterableIterator<
      SubscriptionItem<Data>
    >;
  }
  return {
    items: items(),
    dispose() {
      isDisposed = true;
      void opening.then((client) => client.dispose());
    },
  };
}

/** Loaded by those who subscribe alone: it brings GraphQL as a whole, half the start of a command. */
async function openClient(settings: ClientSettings, onConnected: () => void): Promise<Client> {
  const [{ createClient }, { default: WebSocket }] = await Promise.all([
    import('graphql-ws'),
    import('ws'),
  ]);
  const { token } = settings;
  return createClient({
    url: `${settings.url.replace(/^http/, 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    lazy: true,
    retryAttempts: 0,
    keepAlive: 10_000,
    ...(token === undefined ? {} : { connectionParams: { Authorization: `Bearer ${token}` } }),
    on: { connected: onConnected },
    onNonLazyError: () => undefined,
  });
}
