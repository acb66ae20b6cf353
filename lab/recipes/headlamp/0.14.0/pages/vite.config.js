// Turns Headlamp's compiled components and the shell of main.jsx into files for a browser.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { defineConfig } from 'vite';

const COMPONENTS = 'node_modules/@kinvolk/headlamp-plugin/lib';

// The icons that are named somewhere: by itself, Iconify's component fetches them from a server in the
// Internet.
function icons() {
  const collection = () => {
    const all = JSON.parse(readFileSync('node_modules/@iconify-json/mdi/icons.json', 'utf8'));
    const { width, height } = all;
    const set = { prefix: 'mdi', icons: {}, aliases: {}, width, height };
    const add = name => {
      if (name in all.icons) {
        set.icons[name] = all.icons[name];
      } else if (name in all.aliases) {
        set.aliases[name] = all.aliases[name];
        add(all.aliases[name].parent);
      }
    };
    const files = readdirSync(COMPONENTS, { recursive: true }).map(name => join(COMPONENTS, name));
    for (const file of [...files.filter(name => name.endsWith('.js')).sort(), 'main.jsx']) {
      for (const [, name] of readFileSync(file, 'utf8').matchAll(/['"]mdi:([a-z0-9-]+)['"]/g)) {
        add(name);
      }
    }
    return set;
  };
  return {
    name: 'icons',
    resolveId: id => (id === 'virtual:icons' ? '\0icons' : undefined),
    load: id => (id === '\0icons' ? `export default ${JSON.stringify(collection())}` : undefined),
  };
}

// A picture that is imported as a component.
function pictures() {
  return {
    name: 'pictures',
    enforce: 'pre',
    load(id) {
      if (!id.endsWith('.svg?react')) return undefined;
      const text = readFileSync(id.replace('?react', ''), 'utf8');
      const [, attributes, inner] = text.match(/<svg([^>]*)>(.*)<\/svg>/s);
      const kept = {};
      for (const [, name, value] of attributes.matchAll(/\s(viewBox|width|height|fill)="([^"]*)"/g)) {
        kept[name] = value;
      }
      return `import { createElement } from 'react';
        const kept = ${JSON.stringify(kept)}, inner = { __html: ${JSON.stringify(inner)} };
        export default properties =>
          createElement('svg', { ...kept, ...properties, dangerouslySetInnerHTML: inner });`;
    },
  };
}

export default defineConfig({
  define: { global: 'globalThis', 'import.meta.env.UNDER_TEST': 'false' },
  envPrefix: 'REACT_APP_',
  esbuild: { jsx: 'automatic' },
  plugins: [icons(), pictures()],
  resolve: {
    alias: [
      // The editor alone, without a hundred languages.
      { find: /^monaco-editor$/, replacement: 'monaco-editor/esm/vs/editor/editor.api' },
      { find: /^(node:)?process$/, replacement: 'process/browser' },
      { find: /^(node:)?path$/, replacement: 'path-browserify' },
    ],
  },
  worker: { format: 'es' },
  build: {
    chunkSizeWarningLimit: 8000,
    commonjsOptions: { transformMixedEsModules: true },
    // Translations are imported by the names of their languages, inside a package.
    dynamicImportVarsOptions: { exclude: [], warnOnError: true },
    reportCompressedSize: false,
  },
});
