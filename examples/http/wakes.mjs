// Yields each wake of a key, in node and in browsers, and misses none between two answers of the gateway:
//   for await (const event of wakes("http://127.0.0.1:8181/v1/maps/deploy", "ready")) console.log(event.value);
export async function* wakes(map, key, headers = {}) {
  const query = new URLSearchParams({ key });
  for (;;) {
    // Lenient: browsers repeat a 408 by themselves.
    const asked = fetch(`${map}/wait?${query}`, { headers: { Prefer: "handling=lenient", ...headers } });
    const [status, body] = await asked.then(async (told) => [told.status, await told.json()]).catch(() => [0, {}]);
    if (status >= 400 && status !== 429 && status !== 503) throw new Error(body.detail ?? body.title);
    if (body.revision) query.set("since", body.revision);
    yield* body.events ?? [];
    if (status !== 200) await new Promise((resume) => setTimeout(resume, 1000));
  }
}
