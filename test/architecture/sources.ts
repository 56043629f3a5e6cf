// SPDX-License-Identifier: MIT
// The project's own TypeScript, parsed.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import ts from 'typescript';

export interface Source {
  /** From the root of the project: "src/base/errors.ts". */
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

/** All files of the product that people write. */
export function readSources(): Source[] {
  return ['src', 'formats', 'plugins'].flatMap((top) =>
    readdirSync(top, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.includes('generated/'))
      .map((name) => {
        const path = join(top, name);
        const text = readFileSync(path, 'utf8');
        return { path, text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true) };
      }),
  );
}

/** Paths of ours that a file imports, for types too, statically or not: "src/base/errors.ts". */
export function ownImports({ path, tree }: Source): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const target = importedName(node);
    if (target?.startsWith('.')) found.push(normalize(join(dirname(path), target)).replace(/\.js$/, '.ts'));
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

function importedName(node: ts.Node): string | undefined {
  if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) return textOf(node.moduleSpecifier);
  if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) return textOf(node.argument.literal);
  if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword)
    return textOf(node.arguments[0]);
  return undefined;
}

function textOf(node: ts.Node | undefined): string | undefined {
  return node !== undefined && ts.isStringLiteralLike(node) ? node.text : undefined;
}

/** Uses of `process.NAME` for the names, and of `console`, as "file:line what". */
export function terminalUses({ path, tree }: Source, names: ReadonlySet<string>): string[] {
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    const use = terminalUse(node, names);
    if (use !== undefined) found.push(`${path}:${tree.getLineAndCharacterOfPosition(node.getStart()).line + 1} ${use}`);
    ts.forEachChild(node, visit);
  };
  visit(tree);
  return found;
}

function terminalUse(node: ts.Node, names: ReadonlySet<string>): string | undefined {
  if (ts.isPropertyAccessExpression(node) && ts.isIdentifier(node.expression)) {
    if (node.expression.text === 'console') return 'console';
    if (node.expression.text === 'process' && names.has(node.name.text)) return `process.${node.name.text}`;
  }
  const from = importedName(node);
  return from === 'process' || from === 'node:process' || from === 'console' || from === 'node:console'
    ? from
    : undefined;
}
