// What the first screen needs is asked for while the modules are fetched; api.js takes the answers from here.
globalThis.asked = new Map();
{
  const [, map] = location.hash.match(/^#\/map\/([^/?]+)/) ?? [];
  for (const path of ['me', 'maps', 'status', 'members', ...(map ? [`maps/${map}/records?limit=200`] : [])]) {
    const url = new URL(`v1/${path}`, document.baseURI).href;
    const sent = fetch(url, {credentials: 'same-origin', cache: 'no-store', signal: AbortSignal.timeout(20_000)});
    const answer = sent.then(async (response) => ({response, text: await response.text()}));
    // Whoever takes it sees the error.
    answer.catch(() => {});
    asked.set(url, answer);
  }
}

// Runs before the first paint: a module would come after it, and a dark page would flash white. It takes the browser
// 10 ms and more to look into the storage, so the requests are on their way already.
try {
  const chosen = localStorage.getItem('coord-theme');
  if (chosen === 'dark' || chosen === 'light') document.documentElement.dataset.theme = chosen;
} catch {
  // Storage may be forbidden; the system's choice stands then.
}
