import { defineEntity, p } from '@mikro-orm/core';
import { confirmLevels } from '../storage/contract.ts';

export const SiteEntity = defineEntity({
  name: 'Site',
  tableName: 'sites',
  properties: {
    id: p.integer().primary(),
    name: p.string().unique(),
    description: p.string().nullable(),
  },
});

/** A mass store as it is configured; the driver is made from it. */
export const MassStoreEntity = defineEntity({
  name: 'MassStore',
  tableName: 'mass_stores',
  properties: {
    id: p.integer().primary(),
    site: () => p.manyToOne(SiteEntity).fieldName('site_id'),
    name: p.string().unique(),
    kind: p.string(),
    root: p.string(),
    urlPrefix: p.string().fieldName('url_prefix').nullable(),
    isDefault: p.boolean().fieldName('is_default').default(false),
    concurrency: p.integer().default(8),
    attemptLimit: p.integer().fieldName('attempt_limit').default(8),
    retryFirstMs: p.integer().fieldName('retry_first_ms').nullable(),
    retryLongestMs: p.integer().fieldName('retry_longest_ms').default(600_000),
    retryFactor: p.float().fieldName('retry_factor').default(2),
    tapeHours: p.integer().fieldName('tape_hours').default(72),
    confirmLevel: p.enum(confirmLevels).fieldName('confirm_level').default('READ_BACK'),
    isTrusted: p.boolean().fieldName('is_trusted').default(true),
    isPrepared: p.boolean().fieldName('is_prepared').default(true),
    hasTape: p.boolean().fieldName('has_tape').default(false),
    needsRecall: p.boolean().fieldName('needs_recall').default(false),
    isConfigured: p.boolean().fieldName('is_configured').default(true),
  },
});
