// PostGraphile 5 on the same tables, as its manual sets it up for production: grafserv on node:http.
import { createServer } from 'node:http';
import { grafserv } from 'postgraphile/grafserv/node';
import { postgraphile } from 'postgraphile';
import { makePgService } from 'postgraphile/adaptors/pg';
import { PostGraphileAmberPreset } from 'postgraphile/presets/amber';

const preset = {
  extends: [PostGraphileAmberPreset],
  pgServices: [
    makePgService({ connectionString: process.env.DATABASE_URL, schemas: ['public'], max: 12 }),
  ],
  grafserv: { graphiql: false, websockets: false, watch: false },
  grafast: { explain: false },
  // It would hide conditions on columns without an index of their own.
  disablePlugins: ['PgIndexBehaviorsPlugin'],
};

const server = createServer();
const pgl = postgraphile(preset);
const serving = pgl.createServ(grafserv);
await serving.addTo(server);
await serving.ready();
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`listening http://127.0.0.1:${server.address().port}/graphql\n`);
});
