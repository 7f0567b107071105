import KDNumerics
import XCTest

@testable import KDDiffusion

/// Stopping, and what waits for it.
final class CancellationTests: XCTestCase {
    func testCancellingTheConsumerStopsWithinAStep() async throws {
        let gate = Gate()
        let (pipeline, engine) = try make(gate)
        let task = Task { try await pipeline.outcome(of: Request(prompt: "a")) }
        await gate.waitForCaller()
        task.cancel()
        await gate.open()
        await requireCancelled(task)
        // The call that was under way was finished, nothing else begun, everything freed.
        let events = await engine.log.events
        XCTAssertEqual(events.suffix(3), ["load Unet", "run Unet", "unload Unet"])
    }

    func testDroppingTheStreamStops() async throws {
        let gate = Gate()
        let (pipeline, engine) = try make(gate)
        do {
            let stream = pipeline.generate(Request(prompt: "a"))
            for try await _ in stream { break }
            await gate.waitForCaller()
        }
        await gate.open()
        // It waits for its turn, so the work has stopped when it returns.
        await pipeline.unload()
        let events = await engine.log.events
        XCTAssertEqual(events.last, "unload Unet")
        XCTAssertEqual(events.filter { $0 == "run Unet" }.count, 1)
    }

    func testASecondGenerationWaitsForTheFirst() async throws {
        let gate = Gate()
        let (pipeline, engine) = try make(gate)
        let first = Task { try await pipeline.outcome(of: Request(prompt: "a")) }
        await gate.waitForCaller()
        let second = Task { try await pipeline.outcome(of: Request(prompt: "b")) }
        let texts = await engine.log.calls(of: "Text")
        XCTAssertEqual(texts.count, 2)
        await gate.open()
        let outcomes = try await [first.value, second.value]
        XCTAssertEqual(outcomes.map(\.pictures.count), [1, 1])
        let events = await engine.log.events
        let done = try XCTUnwrap(events.firstIndex(of: "run Decoder"))
        XCTAssertEqual(events[..<done].filter { $0 == "run Text" }.count, 2)
    }

    func testAWaitingGenerationCanBeCancelled() async throws {
        let gate = Gate()
        let (pipeline, _) = try make(gate)
        let first = Task { try await pipeline.outcome(of: Request(prompt: "a")) }
        await gate.waitForCaller()
        let second = Task { try await pipeline.outcome(of: Request(prompt: "b")) }
        second.cancel()
        await requireCancelled(second)
        await gate.open()
        let pictures = try await first.value.pictures
        XCTAssertEqual(pictures.count, 1)
    }

    func testTurnsComeInTheOrderOfTheCalls() async throws {
        let (turns, order, gate) = (Turns(), Order(), Gate())
        let first = Task { try await turns.take { await gate.pass() } }
        await gate.waitForCaller()
        var others: [Task<Void, any Error>] = []
        for number in 1...3 {
            others.append(Task { try await turns.take { await order.add(number) } })
            // Long enough that each has asked for its turn before the next one.
            try await Task.sleep(nanoseconds: 20_000_000)
        }
        others[1].cancel()
        await gate.open()
        try await first.value
        _ = await others[0].result
        _ = await others[2].result
        let found = await order.numbers
        XCTAssertEqual(found, [1, 3])
    }

    private func make(_ gate: Gate) throws -> (DiffusionPipeline, FakeEngine) {
        let engine = FakeEngine { component, inputs in
            if component.role == .unet { await gate.pass() }
            return try await FakeEngine.numbers(component, inputs)
        }
        let pipeline = try DiffusionPipeline(
            bundle: try FakeBundle(for: self).open(), engine: engine,
            options: PipelineOptions(reducedMemory: true))
        return (pipeline, engine)
    }

    private func requireCancelled(_ task: Task<Outcome, any Error>, line: UInt = #line) async {
        switch await task.result {
        case .success: XCTFail("It was not cancelled.", line: line)
        case .failure(let error):
            XCTAssertTrue(error is CancellationError, "\(error)", line: line)
        }
    }
}

/// Holds whoever passes until it is opened.
private actor Gate {
    private var isOpen = false
    private var held: [CheckedContinuation<Void, Never>] = []
    private var watchers: [CheckedContinuation<Void, Never>] = []

    func pass() async {
        guard !isOpen else { return }
        await withCheckedContinuation { continuation in
            held.append(continuation)
            for watcher in watchers { watcher.resume() }
            watchers = []
        }
    }

    /// Returns when somebody stands before it.
    func waitForCaller() async {
        guard held.isEmpty && !isOpen else { return }
        await withCheckedContinuation { watchers.append($0) }
    }

    func open() {
        isOpen = true
        for caller in held { caller.resume() }
        held = []
    }
}

private actor Order {
    private(set) var numbers: [Int] = []

    func add(_ number: Int) { numbers.append(number) }
}
