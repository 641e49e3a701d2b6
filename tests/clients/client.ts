// What somebody writes who has `/openapi.json` and nothing else: `schema.ts` is made from it by openapi-typescript.
import createClient from 'openapi-fetch';
import type { paths } from './schema.js';

const client = createClient<paths>({ baseUrl: process.argv[2] });

// The input has the type of the kind: steps, and seconds.
const submitted = await client.POST('/v1/jobs/demo.progress', { body: { input: { steps: 2, seconds: 0.1 } } });
if (submitted.error !== undefined) throw new Error(submitted.error.title);
// It would be a stream of events, had that been asked for.
if (typeof submitted.data !== 'object') throw new Error('a job was expected');
const path = { job: submitted.data.id };

const done = await client.GET('/v1/jobs/{job}', { params: { path, query: { wait: 30 } } });
if (done.data === undefined) throw new Error('not found');

const result = await client.GET('/v1/jobs/{job}/result', { params: { path } });
const refused = await client.POST('/v1/jobs/{job}/cancel', { params: { path } });
console.log(JSON.stringify({ state: done.data.state, result: result.data, refused: refused.error?.type }));
