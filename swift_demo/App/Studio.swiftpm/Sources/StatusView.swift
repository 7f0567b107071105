import KDStudio
import SwiftUI

/// What the app is doing, and what went wrong.
struct StatusView: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        switch studio.phase {
        case .noBundle:
            Text("There is no model.")
        case .loading:
            LoadingView()
        case .ready:
            ReadyView()
        case .drawing(let progress):
            ProgressRow(progress: progress)
        case .outOfMemory:
            Label {
                Text(
                    """
                    The system ran short of memory. From now on one model is held in memory at a \
                    time. Close other apps, or choose a smaller size, and draw again.
                    """)
            } icon: {
                Image(systemName: "memorychip")
            }
        case .failed(let message):
            Label(message, systemImage: "exclamationmark.triangle")
            Button("Load the model again") {
                Task { await studio.reload() }
            }
        }
    }
}

/// Says that loading may take long.
struct LoadingView: View {
    var body: some View {
        HStack {
            ProgressView()
            VStack(alignment: .leading) {
                Text("Loading the model")
                Text("The first time it is compiled for this device, which may take minutes.")
                    .font(.footnote)
                    .foregroundStyle(.secondary)
            }
        }
        .accessibilityElement(children: .combine)
    }
}

/// Says what is missing, if anything.
struct ReadyView: View {
    @Environment(Studio.self) private var studio

    var body: some View {
        if let problem = studio.problems.first {
            Label(problem.localizedDescription, systemImage: "info.circle")
                .foregroundStyle(.secondary)
        } else {
            Label("Ready", systemImage: "checkmark.circle")
        }
    }
}

/// How far a picture is.
struct ProgressRow: View {
    /// How far.
    let progress: DrawingProgress

    var body: some View {
        ProgressView(value: progress.fraction) {
            Text(label)
        }
    }

    private var label: String {
        if progress.isCancelling { return "Stopping" }
        if progress.total == 0 { return "Reading the prompt" }
        if progress.isDecoding { return "Making the picture" }
        return "Step \(progress.done) of \(progress.total)"
    }
}
