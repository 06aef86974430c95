// One node of @libp2p/kad-dht as a process that speaks the JSON protocol.
//
// Wired as its users wire it, with what a network on loopback needs: its addresses are kept, and all peers may connect
// at once though they share one address.

import './node20.mjs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { generateKeyPair, generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { noise } from '@libp2p/noise'
import { peerIdFromString } from '@libp2p/peer-id'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { CID } from 'multiformats/cid'
import * as Digest from 'multiformats/hashes/digest'

const RAW = 0x55
const TIMEOUT_MS = 30000

const { values: options } = parseArgs({
  options: {
    mode: { type: 'string', default: 'server' },
    protocol: { type: 'string', default: '/ipfs/kad/1.0.0' },
    listen: { type: 'string', default: '/ip4/127.0.0.1/tcp/0' },
    namespace: { type: 'string', default: 'test' },
    seed: { type: 'string' },
    k: { type: 'string', default: '20' },
    'max-seconds': { type: 'string', default: '600' }
  }
})

setTimeout(() => process.exit(3), Number(options['max-seconds']) * 1000)

const privateKey = options.seed == null
  ? await generateKeyPair('Ed25519')
  : await generateKeyPairFromSeed('Ed25519', Buffer.from(options.seed, 'hex'))

const node = await createLibp2p({
  privateKey,
  addresses: { listen: [options.listen] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  connectionManager: {
    // How many new connections a second one address may make: all peers share one.
    inboundConnectionThreshold: 10000
  },
  // Loopback addresses are dialled, too.
  connectionGater: { denyDialMultiaddr: () => false },
  services: {
    identify: identify(),
    identifyPush: identifyPush(),
    ping: ping(),
    dht: kadDHT({
      protocol: options.protocol,
      clientMode: options.mode === 'client',
      kBucketSize: Number(options.k),
      // Loopback addresses are kept and handed on.
      peerInfoMapper: passthroughMapper,
      validators: { [options.namespace]: async () => {} },
      selectors: { [options.namespace]: (key, values) => indexOfGreatest(values) }
    })
  }
})

const { dht } = node.services

/** Of several values the bytewise greatest, the first among equals. */
function indexOfGreatest (values) {
  let best = 0
  for (let i = 1; i < values.length; i++) {
    if (Buffer.compare(values[i], values[best]) > 0) {
      best = i
    }
  }
  return best
}

const bytes = (hex) => new Uint8Array(Buffer.from(hex, 'hex'))
const hex = (bytes) => Buffer.from(bytes).toString('hex')
const named = (peer) => ({ peerId: peer.id.toString(), addrs: peer.multiaddrs.map(String) })

/** What is provided is named by a multihash, which the library wants wrapped into a CID. */
function contentId ({ multihash, cid }) {
  return cid != null ? CID.parse(cid) : CID.createV1(RAW, Digest.decode(bytes(multihash)))
}

/** The errors of single peers during a query are told, and do not end it. */
function noteError (event, errors) {
  if (event.name === 'QUERY_ERROR') {
    errors.push(`${event.from}: ${event.error.message}`)
  }
}

const commands = {
  async connect ({ addr }, signal) {
    const connection = await node.dial(multiaddr(addr), { signal })
    return { peerId: connection.remotePeer.toString() }
  },

  async disconnect ({ peerId }, signal) {
    await node.hangUp(peerIdFromString(peerId), { signal })
    return {}
  },

  async connections () {
    return { peers: node.getPeers().map(String) }
  },

  async findPeer ({ peerId, network }, signal) {
    const id = peerIdFromString(peerId)
    for await (const event of dht.findPeer(id, { signal, useCache: network !== true })) {
      if (event.name === 'FINAL_PEER' && event.peer.id.equals(id)) {
        return named(event.peer)
      }
    }
    throw new Error('not found')
  },

  async getClosestPeers ({ key }, signal) {
    const peers = []
    const errors = []
    for await (const event of dht.getClosestPeers(bytes(key), { signal })) {
      noteError(event, errors)
      if (event.name === 'FINAL_PEER') {
        peers.push(named(event.peer))
      }
    }
    return { peers, errors }
  },

  async put ({ key, value }, signal) {
    let stored = 0
    const errors = []
    for await (const event of dht.put(bytes(key), bytes(value), { signal })) {
      noteError(event, errors)
      // A peer that has stored the value repeats the record.
      if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE' &&
          event.record != null && hex(event.record.value) === value) {
        stored++
      }
    }
    return { stored, errors }
  },

  async get ({ key }, signal) {
    const errors = []
    let value
    try {
      for await (const event of dht.get(bytes(key), { signal })) {
        noteError(event, errors)
        if (event.name === 'VALUE') {
          value = hex(event.value)
        }
      }
    } catch (error) {
      // The value is there, but a correction that was sent for it has failed.
      errors.push(error.message)
    }
    if (value == null) {
      throw new Error(`not found: ${errors.join(', ')}`)
    }
    return { value, errors }
  },

  async provide (call, signal) {
    const errors = []
    for await (const event of dht.provide(contentId(call), { signal })) {
      noteError(event, errors)
    }
    return { sent: null, errors }
  },

  async findProviders ({ count = 20, ...call }, signal) {
    const providers = new Map()
    const errors = []
    for await (const event of dht.findProviders(contentId(call), { signal })) {
      noteError(event, errors)
      if (event.name === 'PROVIDER') {
        for (const peer of event.providers) {
          providers.set(peer.id.toString(), named(peer))
        }
      }
      if (providers.size >= count) {
        break
      }
    }
    return { providers: [...providers.values()].slice(0, count), errors }
  },

  async routingTable () {
    return { peers: table() }
  },

  async routingTableSize () {
    return { size: table().length }
  },

  // Beyond the protocol: changes the mode of a node that runs.
  async setMode ({ mode }) {
    await dht.setMode(mode)
    return {}
  }
}

function table () {
  return [...dht.routingTable.kb.toIterable()].map(({ peerId }) => peerId.toString())
}

function say (line) {
  process.stdout.write(JSON.stringify(line) + '\n')
}

async function obey (line) {
  let id = null
  try {
    const call = JSON.parse(line)
    id = call.id ?? null
    if (call.cmd === 'stop') {
      say({ id, ok: true, result: {} })
      process.exit(0)
    }
    if (!Object.hasOwn(commands, call.cmd)) {
      throw new Error(`unknown command ${call.cmd}`)
    }
    const timeout = call.timeoutMs ?? TIMEOUT_MS
    const late = Promise.withResolvers()
    const timer = setTimeout(() => late.reject(new Error(`timeout after ${timeout} ms`)), timeout)
    try {
      // Some of its operations do not end when they are told to.
      const work = commands[call.cmd](call, AbortSignal.timeout(timeout))
      say({ id, ok: true, result: await Promise.race([work, late.promise]) })
    } finally {
      clearTimeout(timer)
    }
  } catch (error) {
    say({ id, ok: false, error: String(error.message ?? error) })
  }
}

// An error that nobody awaits inside the library must not end the node.
process.on('unhandledRejection', (error) => process.stderr.write(`unhandled: ${error?.stack ?? error}\n`))
process.on('uncaughtException', (error) => process.stderr.write(`uncaught: ${error?.stack ?? error}\n`))

const { version } = createRequire(import.meta.url)('./node_modules/@libp2p/kad-dht/package.json')
say({
  ready: true,
  impl: 'js',
  version,
  peerId: node.peerId.toString(),
  addrs: node.getMultiaddrs().map(String),
  protocol: options.protocol,
  mode: options.mode
})

const lines = createInterface({ input: process.stdin })
lines.on('line', (line) => {
  if (line.trim() !== '') {
    obey(line)
  }
})
lines.on('close', () => process.exit(0))
