import { createHash } from 'node:crypto';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fastifyStatic from '@fastify/static';
import type { FastifyInstance } from 'fastify';
import { ruruHTML, type RuruClientConfig } from 'ruru/server';

const staticPath = '/graphiql/static/';
const staticFolder = join(
  dirname(fileURLToPath(import.meta.resolve('ruru/server'))),
  '..',
  'static',
);

const defaultQuery = `# Sweepbook: what you can see, you can read.
#
# Operators and producers: open "Headers" below, write
#   { "Authorization": "Bearer <your token>" }
# The icon at the top left opens the manual: every
# type and field with its meaning.

query Me {
  viewer {
    principal
    roles
  }
}

query Published {
  datasets(first: 20, orderBy: CLOSED_AT_DESC) {
    totalCount
    nodes {
      name
      kind
      fileCount
      sizeBytes
      eventCount
      closedAt
    }
  }
}

# For producers and operators: what is not published yet.
query Unfinished {
  datasets(filter: { status: [OPEN, BACKED_UP] }, first: 20) {
    nodes {
      name
      status
      sealed
      fileCount
      confirmedCount
      sweep {
        isRunning
        confirmed
        copying
        requested
        failed
        lastError
      }
    }
  }
}

# Run it, and sweep a dataset in another window.
subscription Watch {
  datasetStatusChanged {
    occurredAt
    dataset {
      name
    }
    from
    to
    actor
    reason
    cursor
  }
}
`;

/** GraphiQL from this server alone: nothing is asked of any other address, and the browser is told so. */
export async function serveGraphiql(app: FastifyInstance): Promise<void> {
  const html = ruruHTML({
    staticPath,
    endpoint: '/graphql',
    subscriptionEndpoint: '/graphql',
    // All are optional; its types say otherwise.
    clientConfig: { defaultQuery } as RuruClientConfig,
    htmlParts: { titleTag: '<title>Sweepbook · GraphiQL</title>' },
  });
  const scripts = [...html.matchAll(/<script(?![^>]*\bsrc=)[^>]*>([\s\S]*?)<\/script>/g)]
    .map(
      ([, text]) =>
        `'sha256-${createHash('sha256')
          .update(text ?? '')
          .digest('base64')}'`,
    )
    .join(' ');
  const policy = [
    "default-src 'self'",
    `script-src 'self' 'unsafe-eval' blob: ${scripts}`,
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self' data:",
    "worker-src 'self' blob:",
    "connect-src 'self' ws: wss:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  await app.register(fastifyStatic, {
    root: staticFolder,
    prefix: staticPath,
    immutable: true,
    maxAge: '1d',
    index: false,
  });
  app.get('/graphiql', async (_request, reply) =>
    reply
      .header('content-security-policy', policy)
      .header('x-content-type-options', 'nosniff')
      .header('referrer-policy', 'no-referrer')
      .header('cache-control', 'no-cache')
      .type('text/html; charset=utf-8')
      .send(html),
  );
}
