const unknownAuthority: ReadonlySet<string> = new Set([
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
]);

/** What is wrong with the certificate of a server, and the way out; `naming`: how an authority is made known. */
export function certificateTrouble(code: string, naming: string): string | undefined {
  if (unknownAuthority.has(code)) {
    return `its certificate is of an authority that is not known here: name that by ${naming}`;
  }
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
    return 'its certificate is that of another host: use the name that stands in it';
  }
  return code === 'CERT_HAS_EXPIRED' ? 'its certificate is over: have it renewed' : undefined;
}
