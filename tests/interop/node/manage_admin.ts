// Life of an API by a client generated from the description, on top of the guide's admin.ts. One object tells what was seen.
import { admin, limitTokens, type Admin, type Api } from './admin.js';

export interface Seen {
  names: string[];
  added: Api;
  location: string | null;
  took: boolean;
  stale: { status: number; type: string | undefined };
  lifetimes: [number | null | undefined, number | null | undefined];
  removed: string | undefined;
  gone: { status: number; type: string | undefined; detail: string | undefined };
}

async function names(groat: Admin): Promise<string[]> {
  const found: string[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const { data, error }: Awaited<ReturnType<typeof page>> = await page(groat, cursor);
    if (!data) throw new Error(error.title);
    found.push(...data.items.map((one) => one.name));
    cursor = data.next;
  }
  return found;
}

function page(groat: Admin, cursor: string) {
  return groat.GET('/admin/v1/apis', { params: { query: { limit: 1, cursor } } });
}

export async function manage(origin: string, token: string): Promise<Seen> {
  const groat = admin(origin, token);
  const body = { name: 'bills', audience: 'https://bills.example', scopes: ['bills:read'] };
  const added = await groat.POST('/admin/v1/apis', { body });
  // 201 is the API, 200 what it would be: TypeScript wants to know which.
  if (!added.data || 'dry_run' in added.data) throw new Error(added.error?.detail);
  const tag = added.response.headers.get('etag') ?? '';
  const path = { name: body.name };

  const listed = await names(groat);
  const took = await limitTokens(groat, body.name, 300);
  const change = { token_lifetime: 600, binding: 'dpop' } as const;
  const late = await groat.PATCH('/admin/v1/apis/{name}', { params: { path, header: { 'If-Match': tag } }, body: change });
  const tried = await groat.PATCH('/admin/v1/apis/{name}', { params: { path, query: { dry_run: true } }, body: change });
  const removed = await groat.DELETE('/admin/v1/apis/{name}', { params: { path, header: { 'If-Match': '*' } } });
  const gone = await groat.GET('/admin/v1/apis/{name}', { params: { path } });
  return {
    names: listed,
    added: added.data,
    location: added.response.headers.get('location'),
    took,
    stale: { status: late.response.status, type: late.error?.type },
    lifetimes: [tried.data?.before?.token_lifetime, tried.data?.after?.token_lifetime],
    removed: removed.data?.before?.name,
    gone: { status: gone.response.status, type: gone.error?.type, detail: gone.error?.detail },
  };
}

// A key is an open object; what the API does not know must not compile: tsc refuses an expectation that is not met.
export async function refusedByTheCompiler(groat: Admin): Promise<void> {
  await groat.POST('/admin/v1/clients', { body: { client_id: 'shop', allow: {}, keys: [{ kty: 'EC', crv: 'P-256' }] } });
  // @ts-expect-error: no such path
  await groat.GET('/admin/v1/nothing');
  // @ts-expect-error: the audience is missing
  await groat.POST('/admin/v1/apis', { body: { name: 'bills' } });
  // @ts-expect-error: a status is no text
  const status: string | undefined = (await groat.GET('/admin/v1/overview')).error?.status;
  // @ts-expect-error: no such member
  await groat.GET('/admin/v1/apis', { params: { query: { colour: 'red' } } }).then(({ data }) => data?.colour ?? status);
  // @ts-expect-error: no such binding
  await groat.POST('/admin/v1/apis', { body: { name: 'bills', audience: 'https://bills.example', binding: 'rope' } });
  const { data } = await groat.GET('/admin/v1/apis/{name}', { params: { path: { name: 'bills' } } });
  // @ts-expect-error: there may be no answer
  data.audience.toString();
}
