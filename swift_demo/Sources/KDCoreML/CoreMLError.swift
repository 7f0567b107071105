import Foundation

/// What can go wrong in Core ML, or before it.
public enum CoreMLError: Error, Sendable, Equatable {
    /// This is none of Apple's systems.
    case unavailable
    /// The manifest names compute units that there are not.
    case unknownUnits(String)
    /// The manifest has no record of the package's files, so there is nothing to know it again by.
    case unrecorded(model: String)
    /// The model is neither an `.mlpackage` nor an `.mlmodelc`, or is not there.
    case noModel(String)
    /// Core ML cannot compile the package.
    case notCompiled(model: String, reason: String)
    /// The compiled model cannot be kept in the cache.
    case notCached(model: String, reason: String)
    /// Core ML cannot load the compiled model.
    case notLoaded(model: String, reason: String)
    /// Core ML failed while it ran the model.
    case notRun(model: String, reason: String)
    /// An input that the model takes was not handed over.
    case missingInput(model: String, port: String)
    /// An input is no array of a known type, or its numbers do not fit that type.
    case unfitInput(model: String, port: String)
    /// An output is no array of a known type.
    case unreadableOutput(model: String, port: String)
}

extension CoreMLError: LocalizedError {
    public var errorDescription: String? {
        switch self {
        case .unavailable:
            "Core ML exists on Apple's systems only; run this on a Mac, an iPhone or an iPad."
        case .unknownUnits(let name):
            "The bundle names the compute units '\(name)', which Core ML does not have; export it "
                + "again, or choose \(Self.choices)."
        case .unrecorded(let model):
            "The manifest does not list the files of '\(model)'; copy the bundle again or export "
                + "again."
        case .noModel(let model):
            "'\(model)' is not there, or is no .mlpackage or .mlmodelc; copy the bundle again."
        case .notCompiled(let model, let reason):
            "Core ML cannot compile '\(model)': \(reason)"
        case .notCached(let model, let reason):
            "The compiled '\(model)' cannot be stored: \(reason); free some space and try again."
        case .notLoaded(let model, let reason):
            "Core ML cannot load '\(model)': \(reason)"
        case .notRun(let model, let reason):
            "Core ML failed to run '\(model)': \(reason)"
        case .missingInput(let model, let port):
            "'\(model)' was not given its input '\(port)'; export the model again."
        case .unfitInput(let model, let port):
            "The input '\(port)' of '\(model)' cannot hold what it was given; export the model "
                + "again."
        case .unreadableOutput(let model, let port):
            "The output '\(port)' of '\(model)' is no array of 16- or 32-bit numbers; export the "
                + "model again."
        }
    }

    private static var choices: String {
        ComputeUnits.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", ")
    }
}
