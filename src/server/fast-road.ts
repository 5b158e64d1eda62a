import type { FastifyRequest, RouteHandlerMethod } from 'fastify';
import type { Viewer } from '../access/policy.ts';
import type { Purse } from '../api/context.ts';
import type { AskedQuery, FastReads } from './fast-reads.ts';

/** Says that the answer came by the fast road, and how long its statement took. */
export const fastHeader = 'server-timing';

const json = 'application/json; charset=utf-8';
const graphqlJson = 'application/graphql-response+json; charset=utf-8';

/** What usual clients accept, and what they get; who accepts anything else is answered by the plain road. */
const contentTypes = new Map<string | undefined, string>([
  [undefined, json],
  ['', json],
  ['*/*', json],
  ['application/json', json],
  ['application/json, */*', json],
  ['application/json, text/plain, */*', json],
  ['application/graphql-response+json', graphqlJson],
  ['application/graphql-response+json, application/json', graphqlJson],
  ['application/graphql-response+json,application/json', graphqlJson],
]);

interface FastRoad {
  readonly reads: FastReads;
  readonly viewerOf: (request: FastifyRequest) => Viewer;
  readonly purseOf: (request: FastifyRequest) => Purse;
  readonly plainRoad: RouteHandlerMethod;
  readonly answered: (request: FastifyRequest, asked: AskedQuery) => void;
}

/** POST /graphql: by the fast road if it knows the answer, else by the plain one. */
export function fastRoad({
  reads,
  viewerOf,
  purseOf,
  plainRoad,
  answered,
}: FastRoad): RouteHandlerMethod {
  return async function handle(request, reply) {
    const contentType = contentTypes.get(request.headers.accept);
    const asked = contentType === undefined ? undefined : askedOf(request);
    if (!asked) return plainRoad.call(this, request, reply);
    const begun = performance.now();
    const answer = await reads.answer(asked, viewerOf(request), purseOf(request));
    if (answer === undefined) return plainRoad.call(this, request, reply);
    answered(request, asked);
    void reply
      .header('content-type', contentType)
      .header('cache-control', 'no-store')
      .header(fastHeader, `read;dur=${(performance.now() - begun).toFixed(1)}`);
    return reply.send(answer);
  };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A plain request of GraphQL over HTTP; undefined = anything more, or wrong. */
function askedOf({ body, headers }: FastifyRequest): AskedQuery | undefined {
  if (!headers['content-type']?.startsWith('application/json') || !isRecord(body)) return undefined;
  const { query, operationName, variables, extensions } = body;
  if (typeof query !== 'string' || extensions != null) return undefined;
  if (operationName != null && typeof operationName !== 'string') return undefined;
  if (variables != null && !isRecord(variables)) return undefined;
  return { query, operationName: operationName ?? undefined, variables: variables ?? {} };
}
