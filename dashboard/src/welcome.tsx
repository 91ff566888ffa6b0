/** Commands that send the first samples, with this server's address. */

import { useState } from "preact/hooks";
import { Copyable } from "./parts";
import { useSession } from "./session";

const here = location.origin;

const SENDERS: readonly { name: string; text: string; command: string }[] = [
  {
    name: "This machine",
    text: "The agent sends CPU, memory, disks and network every 5 seconds. In the checkout:",
    command: `.venv/bin/infrawatch agent --url ${here}`,
  },
  {
    name: "curl",
    text: "One sample of your own:",
    command:
      `curl ${here}/v1/samples -H 'Content-Type: application/json' \\\n` +
      `  -d '{"series":[{"metric":"room_temperature_celsius","labels":{"host":"desk"},"samples":[['$(date +%s)'000,21.5]]}]}'`,
  },
  {
    name: "Prometheus",
    text: "In prometheus.yml:",
    command: `remote_write:\n  - url: ${here}/api/v1/write`,
  },
  {
    name: "OpenTelemetry",
    text: "For any SDK, or as the collector's otlphttp exporter:",
    command: `export OTEL_EXPORTER_OTLP_METRICS_ENDPOINT=${here}/v1/metrics`,
  },
  {
    name: "Telegraf",
    text: "In telegraf.conf:",
    command: `[[outputs.influxdb]]\n  urls = ["${here}"]\n  database = "telegraf"\n  skip_database_creation = true`,
  },
];

/** Shown on an empty server; `isFolded` once there is data. */
export function Welcome({ isFolded = false }: { isFolded?: boolean }) {
  if (isFolded)
    return (
      <details class="welcome more">
        <summary>Add another source</summary>
        <Senders />
      </details>
    );
  return (
    <section class="welcome" aria-labelledby="title">
      <h1 id="title">Nothing has been sent yet</h1>
      <p>Run one of these; this page shows the first samples the moment they arrive.</p>
      <Senders />
    </section>
  );
}

function Senders() {
  const { session } = useSession();
  const [chosen, choose] = useState(0);
  const sender = SENDERS[chosen];
  return (
    <div class="ways">
      <div class="tabs" role="group" aria-label="Ways to send">
        {SENDERS.map((one, at) => (
          <button key={one.name} type="button" aria-pressed={at === chosen} onClick={() => choose(at)}>{one.name}</button>
        ))}
      </div>
      {sender && <><p>{sender.text}</p><Copyable text={sender.command} label={`${sender.name}: command`} /></>}
      {session?.authentication === "required" && (
        <p>
          Every sender needs a key that may write: <code>infrawatch keys create --name NAME --scope write</code> prints one.
          It goes into the header <code>Authorization: Bearer iw_…</code>; the agent takes it with <code>--key-file</code>.
        </p>
      )}
    </div>
  );
}
