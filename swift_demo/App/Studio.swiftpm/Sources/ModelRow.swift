import KDStudio
import SwiftUI

/// A model of the list.
struct ModelRow: View {
    /// The model.
    let entry: BundleEntry

    @Environment(Studio.self) private var studio
    @State private var isAsking = false

    var body: some View {
        Button {
            Task { await studio.open(entry) }
        } label: {
            HStack {
                VStack(alignment: .leading) {
                    Text(entry.title)
                        .foregroundStyle(.primary)
                    Text(detail)
                        .font(.footnote)
                        .foregroundStyle(.secondary)
                }
                Spacer()
                if isOpen {
                    Image(systemName: "checkmark")
                        .accessibilityHidden(true)
                }
            }
        }
        .disabled(entry.problem != nil || studio.phase.isBusy)
        .accessibilityElement(children: .combine)
        .accessibilityAddTraits(isOpen ? [.isButton, .isSelected] : .isButton)
        .swipeActions {
            if entry.origin == .imported {
                Button("Delete", role: .destructive) { isAsking = true }
            }
        }
        .confirmationDialog("Delete \(entry.title)?", isPresented: $isAsking) {
            Button("Delete", role: .destructive) {
                Task { await studio.remove(entry) }
            }
        } message: {
            Text("The model and what was compiled from it are deleted. Pictures are kept.")
        }
    }

    private var isOpen: Bool { entry.id == studio.current?.id }

    private var detail: String {
        if let problem = entry.problem { return problem }
        let origin = entry.origin == .resource ? "part of the app" : "added by you"
        guard let bytes = (try? entry.bundle.get())?.bytes else { return origin }
        return "\(byteText(bytes)), \(origin)"
    }
}
