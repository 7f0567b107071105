import Foundation

/// Why a compiled sampler cannot be read or run.
public enum SamplerError: Error, Equatable, Sendable {
    /// A table of the file does not have the rows that its number of calls needs.
    case malformed(String)
    /// There is no table for a number of steps; the others are what there is.
    case steps(Int, scheduler: String, available: [Int])
    /// A schedule cannot be begun at a step, counted from 1.
    case start(Int, of: Int, scheduler: String)
    /// All model calls are made.
    case finished(calls: Int)
    /// A row was evaluated before the model calls that it needs.
    case early(row: Int)
    /// The model's output has another shape than the latents.
    case shape([Int], latents: [Int])
}

extension SamplerError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .malformed(let problem):
            "\(problem); export the model again."
        case .steps(let steps, let scheduler, let available):
            "The bundle holds no \(steps)-step table for the scheduler '\(scheduler)'; it has "
                + "\(ranges(available)): choose one of these, or export again with a larger "
                + "--max-steps."
        case .start(let step, let steps, let scheduler):
            "The scheduler '\(scheduler)' cannot begin at step \(step) of \(steps); choose another "
                + "strength, another number of steps or another scheduler."
        case .finished(let calls):
            "The sampler has made all of its \(calls) model calls; start another one."
        case .early(let row):
            "Row \(row) of the sampler needs the outputs and noises of all calls before it; run "
                + "these first."
        case .shape(let shape, let latents):
            "The model returned the shape \(shape) for latents of the shape \(latents); export "
                + "the model again."
        }
    }
}

/// Ascending step counts in words: `1 to 50` or `1, 2, 4 to 8`.
private func ranges(_ values: [Int]) -> String {
    var runs: [ClosedRange<Int>] = []
    for value in values {
        if let last = runs.last, value == last.upperBound + 1 {
            runs[runs.count - 1] = last.lowerBound...value
        } else {
            runs.append(value...value)
        }
    }
    let words = runs.flatMap { run in
        run.count > 2 ? ["\(run.lowerBound) to \(run.upperBound)"] : run.map(String.init)
    }
    let shown = words.prefix(8).joined(separator: ", ")
    return words.count <= 8 ? shown : "\(shown) and \(words.count - 8) more"
}
