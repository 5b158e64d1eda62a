/** How many test files run at once. A given database is for one: see global-setup.ts. */
export const workers = process.env['TEST_DATABASE_URL']
  ? 1
  : Number(process.env['TEST_WORKERS'] ?? 2);
