// SPDX-License-Identifier: MIT
// Reads the text format of Prometheus, and is stricter than it must be: what it takes, every collector takes.

export interface Metric {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  /** By labels as they stand there: `guest="vm/1"`. */
  readonly samples: ReadonlyMap<string, number>;
}

const HELP = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\]|\\\\|\\n)+)$/;
const TYPE = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (gauge|counter)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"/y;
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|NaN|[+-]Inf)$/;
/** Units of Prometheus, bytes and seconds, and what has none. */
const UNIT = /_(?:bytes|seconds|ratio|info|backups|packs|files|guests|overdue|ok|success|attempts)$/;

/** @throws Error that names the line */
export function parsePrometheus(text: string): Map<string, Metric> {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const metrics = new Map<string, Metric & { samples: Map<string, number> }>();
  let help: { name: string; text: string } | undefined;
  let open: (Metric & { samples: Map<string, number> }) | undefined;
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, helpName, helpText] = HELP.exec(line) ?? [];
    const [, typeName, type] = TYPE.exec(line) ?? [];
    if (helpName !== undefined) {
      if (metrics.has(helpName)) throw new Error(`told twice: ${line}`);
      if (!UNIT.test(helpName) || !helpName.startsWith('vmar_')) throw new Error(`badly named: ${line}`);
      help = { name: helpName, text: helpText! };
    } else if (typeName !== undefined) {
      if (help?.name !== typeName) throw new Error(`a type without help: ${line}`);
      open = { name: typeName, type: type!, help: help.text, samples: new Map() };
      metrics.set(typeName, open);
    } else {
      const [, name, labels = '', value] = SAMPLE.exec(line) ?? [];
      if (name === undefined || open?.name !== name) throw new Error(`no sample of ${open?.name}: ${line}`);
      checkLabels(labels, line);
      if (open.samples.has(labels)) throw new Error(`twice: ${line}`);
      open.samples.set(labels, Number(value));
    }
  }
  for (const { name, samples } of metrics.values()) if (samples.size === 0) throw new Error(`no sample of ${name}`);
  return metrics;
}

function checkLabels(labels: string, line: string): void {
  LABEL.lastIndex = 0;
  const names = new Set<string>();
  for (let at = 0; at < labels.length; ) {
    const [whole, name] = LABEL.exec(labels) ?? [];
    if (whole === undefined || names.has(name!)) throw new Error(`bad labels: ${line}`);
    names.add(name!);
    at += whole.length;
    if (at < labels.length && labels[at] !== ',') throw new Error(`bad labels: ${line}`);
    LABEL.lastIndex = ++at;
  }
}
