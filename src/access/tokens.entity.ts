import { defineEntity, p } from '@mikro-orm/core';
import { TextArray } from '../database/text-array.ts';

/** An API token, without itself: the prefix finds it, the hash proves it. */
export const TokenEntity = defineEntity({
  name: 'Token',
  tableName: 'tokens',
  properties: {
    id: p.integer().primary(),
    principal: p.string(),
    roles: p.type(TextArray),
    scopes: p.type(TextArray).nullable(),
    sites: p.type(TextArray).nullable(),
    replaces: p.integer().nullable(),
    prefix: p.string().unique(),
    secretSha256: p.blob().fieldName('secret_sha256'),
    note: p.string().nullable(),
    createdAt: p.datetime().fieldName('created_at').defaultRaw('now()'),
    createdBy: p.string().fieldName('created_by').defaultRaw('current_actor()'),
    expiresAt: p.datetime().fieldName('expires_at').nullable(),
    revokedAt: p.datetime().fieldName('revoked_at').nullable(),
    lastUsedAt: p.datetime().fieldName('last_used_at').nullable(),
    lastUsedFrom: p.string().fieldName('last_used_from').nullable(),
  },
});
